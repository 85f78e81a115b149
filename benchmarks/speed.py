"""Seconds, megapixels per second, peak memory and share of the machine's peak; where time goes.

    python benchmarks/speed.py --presets=two_scale_gru,residual_gru --iterations=1,4,8,16 \
        --sizes=768x512,4000x3000 --precisions=float32,bfloat16 --photo=PHOTO

Each preset, size and precision runs in a process of its own, so that the peak memory is its own; a
preset without shipped weights runs with random ones, which take as long, and one that was trained
for fewer iterations leaves out the others. The peak is the rate of a matrix product in the same
precision on the same backend, measured in the same process just before. Seconds are medians of
--runs, without the compilation.

The columns of the split: analysis (encoder, binarizer), core (the decoder's recurrent part),
synthesis (features to pixels), entropy coding, and the rest, which is the file, the conversion of
pixels, and what waits for others.
"""

import collections
import contextlib
import functools
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from unittest import mock

from absl import app, flags
import numpy as np

from rnn_codec.commands import files

_PRESETS = flags.DEFINE_list("presets", ["two_scale_gru", "residual_gru"], "Names or folders.")
_SIZES = flags.DEFINE_list("sizes", ["768x512"], "Of the picture, each WIDTHxHEIGHT.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "bfloat16"], "To compute in.")
_ITERATIONS = flags.DEFINE_list("iterations", ["1", "4", "8"], "Of the loop.")
_PHOTO = flags.DEFINE_string("photo", None, "Scaled to each size. Noise without.")
_RUNS = flags.DEFINE_integer("runs", 3, "Timed runs of each, of which the table has the median.", 1)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per line of the table.")

_PARTS = ("analysis", "core", "synthesis", "entropy")
_HEADER = (
    "| preset | precision | size | n | | s | MP/s | share of peak | analysis | core | synthesis | "
    "entropy | rest | bytes |"
)


def main(argv):
    del argv
    cases = list(itertools.product(_PRESETS.value, _SIZES.value, _PRECISIONS.value))
    if len(cases) == 1:
        _measure(*cases[0])
        return
    for preset, size, precision in cases:
        chosen = {"presets": preset, "sizes": size, "precisions": precision}
        arguments = [f"--{name}={value}" for name, value in chosen.items()]
        subprocess.run([sys.executable, __file__, *sys.argv[1:], *arguments], check=True)


def _measure(name, size, precision):
    files.load_keras()
    from rnn_codec import codec, complexity, presets, targets

    peak = _matrix_product_rate(precision)
    preset = presets.load(name, load_weights=False)
    cost = complexity.measure(preset.config)
    trained = name in presets.shipped() or name not in presets.names()
    preset = presets.load(name) if trained else _random(preset.config)
    coder = codec.Codec(preset, precision)
    picture = _picture(*map(int, size.split("x")))
    _compile(coder, picture)
    megapixels = picture.width * picture.height / 1e6
    operations = 2 * (-(-picture.width // 16) * 16) * (-(-picture.height // 16) * 16)
    if not _JSON.value:
        print(f"\npeak of {precision} products: {peak / 1e9:.0f} GFLOP/s\n\n{_HEADER}")
        print("|" + "---|" * (_HEADER.count("|") - 1))
    for count in map(int, _ITERATIONS.value):
        if count > preset.config.iterations:
            continue
        encode = functools.partial(coder.encode_picture, picture, targets.Target(iterations=count))
        encoded = None
        for action, macs in (
            ("encode", cost.encode_macs(count)),
            ("decode", cost.decode_macs(count)),
        ):
            if action == "encode":
                encoded, seconds, parts = _time(encode, coder)
            else:
                decode = functools.partial(coder.decode, encoded.data)
                _, seconds, parts = _time(decode, coder)
            record = {
                "preset": name,
                "precision": precision,
                "size": size,
                "iterations": count,
                "action": action,
                "seconds": seconds,
                "megapixels_per_second": megapixels / seconds,
                "share_of_peak": operations * macs / seconds / peak,
                **parts,
                "rest": seconds - sum(parts.values()),
                "bytes": len(encoded.data),
            }
            print(json.dumps(record) if _JSON.value else _row(record), flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_memory_mib": memory}) if _JSON.value else f"\n{memory:.0f} MiB at most")


def _compile(coder, picture):
    """Runs every step once: on a small picture, except where each size is compiled anew."""
    import keras

    from rnn_codec import image_io, targets

    if keras.backend.backend() == "tensorflow":
        picture = image_io.Picture(picture.pixels[:64, :64])
    coder.decode(coder.encode_picture(picture, targets.Target(iterations=2)).data)


def _picture(width, height):
    from PIL import Image

    from rnn_codec import image_io

    if _PHOTO.value is None:
        rng = np.random.default_rng(0)
        return image_io.picture_from_array(rng.integers(0, 256, (height, width, 3), np.uint8))
    with Image.open(_PHOTO.value) as photo:
        photo = photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return image_io.picture_from_array(np.asarray(photo))


def _random(config):
    from rnn_codec import presets, progressive

    return presets.from_network(progressive.ProgressiveNetwork.create(config))


def _matrix_product_rate(precision, size=2048):
    """Floating-point operations per second of a square product on the backend."""
    import keras
    from keras import ops

    from rnn_codec import compilation

    values = np.random.default_rng(0).random((size, size), np.float32)
    a = ops.cast(ops.convert_to_tensor(values), precision)
    # The sum is there so that the result is one number, which has to be waited for.
    multiply = compilation.compile_for_inference(
        lambda a: ops.sum(ops.matmul(a, a)), keras.Sequential()
    )
    seconds = [_seconds(lambda: float(multiply(a))) for _ in range(8)]
    return 2 * size**3 / min(seconds)


def _time(function, coder):
    """The function's result, the median of its seconds, and the parts of that run."""
    runs = []
    for _ in range(_RUNS.value):
        with _clocks(coder) as parts:
            start = time.perf_counter()
            result = function()
            seconds = time.perf_counter() - start
        runs.append((seconds, dict(parts)))
    median = statistics.median_low(seconds for seconds, _ in runs)
    return result, *next(run for run in runs if run[0] == median)


@contextlib.contextmanager
def _clocks(coder):
    """Adds up the seconds of the codec's parts; each is waited for."""
    import keras

    from rnn_codec import planes

    parts = collections.Counter(dict.fromkeys(_PARTS, 0.0))

    def timed(part, function):
        def call(*arguments, **options):
            start = time.perf_counter()
            result = function(*arguments, **options)
            for leaf in keras.tree.flatten(result):
                getattr(leaf, "block_until_ready", lambda: None)()
            parts[part] += time.perf_counter() - start
            return result

        return call

    steps, coding = coder._steps, planes.PlaneCoder
    with contextlib.ExitStack() as stack:
        for owner, name, part in (
            (steps, "analyse", "analysis"),
            (steps, "decode_bits", "core"),
            (steps, "synthesise", "synthesis"),
            (coding, "pack", "entropy"),
            (coding, "unpack", "entropy"),
        ):
            patched = timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, patched))
        yield parts


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _row(record):
    times = " | ".join(f"{record[part]:.3f}" for part in (*_PARTS, "rest"))
    return (
        f"| {record['preset']} | {record['precision']} | {record['size']} | {record['iterations']} "
        f"| {record['action']} | {record['seconds']:.3f} | {record['megapixels_per_second']:.3f} "
        f"| {record['share_of_peak']:.0%} | {times} | {record['bytes']} |"
    )


if __name__ == "__main__":
    app.run(main)
