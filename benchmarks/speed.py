"""Seconds, megapixels per second, peak memory and share of the machine's peak; where time goes.

    python benchmarks/speed.py --presets=two_scale_gru,residual_gru --iterations=1,4,8,16 \
        --sizes=768x512,4000x3000 --precisions=float32,bfloat16 --photo=PHOTO

Each preset, size and precision runs in a process of its own, so that the peak memory is its own; a
preset without shipped weights runs with random ones, which take as long, and one that was trained
for fewer iterations leaves out the others. The peak is the rate of a matrix product in the same
precision on the same backend, measured in the same process just before. Seconds are medians of
--runs, without the compilation.

With --prefixes only the largest number of iterations runs. What a smaller one would have taken is
read off the same clock: the time until its last plane was packed, or decoded, and the time that
what comes after the last plane took.

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
_PREFIXES = flags.DEFINE_bool(
    "prefixes", False, "Run the most iterations only; for large pictures."
)
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
    from rnn_codec import presets, targets, wings
    from rnn_codec.container import bitstream

    peak = _matrix_product_rate(precision)
    preset = presets.load(name, load_weights=False)
    cost = wings.of(preset.config).measure(preset.config)
    trained = name in presets.shipped() or name not in presets.names()
    preset = presets.load(name) if trained else _random(preset.config)
    coder = wings.of(preset.config).make_codec(preset, precision, "numpy")
    picture = _picture(*map(int, size.split("x")))
    _compile(coder, picture)
    megapixels = picture.width * picture.height / 1e6
    operations = 2 * (-(-picture.width // 16) * 16) * (-(-picture.height // 16) * 16)
    if not _JSON.value:
        print(f"\npeak of {precision} products: {peak / 1e9:.0f} GFLOP/s\n\n{_HEADER}")
        print("|" + "---|" * (_HEADER.count("|") - 1))
    counts = [n for n in map(int, _ITERATIONS.value) if n <= preset.config.iterations]
    for together in [counts] if _PREFIXES.value else [[count] for count in counts]:
        target = targets.Target(iterations=max(together))
        encode = functools.partial(coder.encode_picture, picture, target)
        encoded, encoding = _time(encode, coder, together, _encoding_of)
        decode = functools.partial(coder.decode, encoded.data)
        _, decoding = _time(decode, coder, together, _decoding_of)
        for count, action, clock in (
            (count, action, clocks[count])
            for count in together
            for action, clocks in (("encode", encoding), ("decode", decoding))
        ):
            macs = (cost.encode_macs if action == "encode" else cost.decode_macs)(count)
            seconds = clock["seconds"]
            record = {
                "preset": name,
                "precision": precision,
                "size": size,
                "iterations": count,
                "action": action,
                "seconds": seconds,
                "megapixels_per_second": megapixels / seconds,
                "share_of_peak": operations * macs / seconds / peak,
                **{part: clock[part] for part in _PARTS},
                "rest": seconds - sum(clock[part] for part in _PARTS),
                "bytes": len(bitstream.truncate(encoded.data, count)),
            }
            print(json.dumps(record) if _JSON.value else _row(record), flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_memory_mib": memory}) if _JSON.value else f"\n{memory:.0f} MiB at most")


def _compile(coder, picture):
    """Runs every step once: on a small picture, except where each size is compiled anew."""
    import keras

    from rnn_codec import targets
    from rnn_codec.pictures.picture import Picture

    if keras.backend.backend() == "tensorflow":
        picture = Picture(picture.pixels[:64, :64])
    coder.decode(coder.encode_picture(picture, targets.Target(iterations=2)).data)


def _picture(width, height):
    from PIL import Image

    from rnn_codec.pictures.picture import picture_from_array

    if _PHOTO.value is None:
        rng = np.random.default_rng(0)
        return picture_from_array(rng.integers(0, 256, (height, width, 3), np.uint8))
    with Image.open(_PHOTO.value) as photo:
        photo = photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return picture_from_array(np.asarray(photo))


def _random(config):
    from rnn_codec import presets
    from rnn_codec.recurrent import progressive

    return presets.from_network(progressive.ProgressiveNetwork.create(config))


def _matrix_product_rate(precision, size=2048):
    """Floating-point operations per second of a square product on the backend."""
    import keras
    from keras import ops

    from rnn_codec.backend import compilation

    values = np.random.default_rng(0).random((size, size), np.float32)
    a = ops.cast(ops.convert_to_tensor(values), precision)
    # The sum is there so that the result is one number, which has to be waited for.
    multiply = compilation.compile_for_inference(
        lambda a: ops.sum(ops.matmul(a, a)), keras.Sequential()
    )
    seconds = [_seconds(lambda: float(multiply(a))) for _ in range(8)]
    return 2 * size**3 / min(seconds)


def _time(function, coder, counts, prefix):
    """The function's result, and for each count the clock of the run with the median of seconds."""
    runs = []
    for _ in range(_RUNS.value):
        with _Clock(coder) as clock:
            result = function()
        runs.append(clock)
    median = statistics.median_low(clock.end["seconds"] for clock in runs)
    clock = next(clock for clock in runs if clock.end["seconds"] == median)
    return result, {count: prefix(clock, count) for count in counts}


def _encoding_of(clock, count):
    """What encoding with fewer iterations takes: until their last plane, and after the last."""
    packed = clock.marks["pack"]
    return _sum((packed[count - 1], 1), (clock.end, 1), (packed[-1], -1))


def _decoding_of(clock, count):
    unpacked, decoded = clock.marks["unpack"], clock.marks["tiled"] or clock.marks["whole"]
    planes = (unpacked[count - 1], 1), (decoded[count - 1], 1), (unpacked[-1], -1)
    return _sum(*planes, (clock.end, 1), (decoded[-1], -1))


def _sum(*terms):
    """Of what clocks showed, each with a sign."""
    return {key: sum(sign * shown[key] for shown, sign in terms) for key in ("seconds", *_PARTS)}


class _Clock(contextlib.ExitStack):
    """Adds up the seconds of the codec's parts; each is waited for.

    Attributes:
        marks: name of a step -> what the clock showed after each of its calls.
        end: what it showed at last: `seconds` in all, and those of each of `_PARTS`.
    """

    def __init__(self, coder):
        super().__init__()
        self.marks = collections.defaultdict(list)
        self._parts = collections.Counter(dict.fromkeys(_PARTS, 0.0))
        self._coder = coder

    def __enter__(self):
        from rnn_codec.entropy import planes

        super().__enter__()
        steps, coding = self._coder._steps, planes.PlaneCoder
        for owner, name, part in (
            (steps, "analyse", "analysis"),
            (steps, "decode_bits", "core"),
            (steps, "synthesise", "synthesis"),
            (coding, "pack", "entropy"),
            (coding, "unpack", "entropy"),
        ):
            patched = self._timed(part, getattr(owner, name))
            self.enter_context(mock.patch.object(owner, name, patched))
        for owner, name, mark in (
            (steps, "decode_bits", "whole"),  # of a tile, where the loop's steps are tiled
            (self._coder._tiled_steps, "decode_bits", "tiled"),
            (coding, "pack", "pack"),
            (coding, "unpack", "unpack"),
        ):
            patched = self._marked(mark, getattr(owner, name))
            self.enter_context(mock.patch.object(owner, name, patched))
        self._start = time.perf_counter()
        return self

    def __exit__(self, *details):
        self.end = self._shown()
        return super().__exit__(*details)

    def _shown(self):
        return {"seconds": time.perf_counter() - self._start, **self._parts}

    def _timed(self, part, function):
        import keras

        def call(*arguments, **options):
            start = time.perf_counter()
            result = function(*arguments, **options)
            for leaf in keras.tree.flatten(result):
                getattr(leaf, "block_until_ready", lambda: None)()
            self._parts[part] += time.perf_counter() - start
            return result

        return call

    def _marked(self, name, function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            self.marks[name].append(self._shown())
            return result

        return call


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
