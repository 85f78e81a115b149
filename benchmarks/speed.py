"""Seconds per iteration, peak memory and share of the machine's peak, encode and decode.

    python benchmarks/speed.py --presets=two_scale_gru,residual_gru --iterations=8

Each preset runs in a process of its own, so that the peak memory is its own; a preset without
shipped weights runs with random ones, which take as long. The peak is the rate of a float32 matrix
product on the same backend, measured in the same process just before. Medians of --runs.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

from absl import app, flags
import numpy as np

from rnn_codec.commands import files

_PRESETS = flags.DEFINE_list("presets", ["two_scale_gru", "residual_gru"], "Names or folders.")
_WIDTH = flags.DEFINE_integer("width", 768, "Of the picture.", 1)
_HEIGHT = flags.DEFINE_integer("height", 512, "Of the picture.", 1)
_ITERATIONS = flags.DEFINE_integer("iterations", 8, "Of the loop.", 1)
_RUNS = flags.DEFINE_integer("runs", 3, "Timed runs, after one that compiles.", 1)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per preset.")


def main(argv):
    del argv
    if len(_PRESETS.value) == 1:
        record = _measure(_PRESETS.value[0])
        print(json.dumps(record) if _JSON.value else _line(record), flush=True)
        return
    for preset in _PRESETS.value:
        flags_of_child = [f"--presets={preset}", *(a for a in sys.argv[1:] if "presets" not in a)]
        subprocess.run([sys.executable, __file__, *flags_of_child], check=True)


def _measure(name):
    files.load_keras()
    import keras

    from rnn_codec import codec, complexity, image_io, presets, targets

    peak = _matrix_product_rate()
    preset = presets.load(name, load_weights=False)
    cost = complexity.measure(preset.config)
    preset = presets.load(name) if name in presets.shipped() else _random(preset.config)
    coder = codec.Codec(preset)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (_HEIGHT.value, _WIDTH.value, 3), np.uint8)
    picture = image_io.picture_from_array(pixels)
    target = targets.Target(iterations=_ITERATIONS.value)
    data = coder.encode_picture(picture, target).data
    coder.decode(data)
    encode = _median_seconds(lambda: coder.encode_picture(picture, target))
    decode = _median_seconds(lambda: coder.decode(data))
    pixels = -(-_WIDTH.value // 16) * 16 * -(-_HEIGHT.value // 16) * 16
    count = _ITERATIONS.value
    return {
        "preset": name,
        "backend": keras.backend.backend(),
        "width": _WIDTH.value,
        "height": _HEIGHT.value,
        "iterations": count,
        "encode_seconds_per_iteration": encode / count,
        "decode_seconds_per_iteration": decode / count,
        "encode_share_of_peak": 2 * pixels * cost.encode_macs(count) / encode / peak,
        "decode_share_of_peak": 2 * pixels * cost.decode_macs(count) / decode / peak,
        "matrix_product_gflops": peak / 1e9,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _random(config):
    from rnn_codec import presets, progressive

    return presets.from_network(progressive.ProgressiveNetwork.create(config))


def _matrix_product_rate(size=2048):
    """Floating-point operations per second of a square float32 product on the backend."""
    from keras import ops

    a = ops.convert_to_tensor(np.random.default_rng(0).random((size, size), np.float32))
    multiply = _compiled_product()
    seconds = [_seconds(lambda: ops.convert_to_numpy(multiply(a, a)[0, 0])) for _ in range(8)]
    return 2 * size**3 / min(seconds)


def _compiled_product():
    import keras
    from keras import ops

    from rnn_codec import compilation

    return compilation.compile_for_inference(ops.matmul, keras.Sequential())


def _median_seconds(function):
    return statistics.median(_seconds(function) for _ in range(_RUNS.value))


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _line(record):
    return (
        f"{record['preset']} ({record['backend']}), {record['width']}x{record['height']}, "
        f"{record['iterations']} iterations: "
        f"encode {record['encode_seconds_per_iteration']:.3f} s/iteration "
        f"({record['encode_share_of_peak']:.0%} of peak), "
        f"decode {record['decode_seconds_per_iteration']:.3f} s/iteration "
        f"({record['decode_share_of_peak']:.0%} of peak); "
        f"peak {record['matrix_product_gflops']:.0f} GFLOP/s float32; "
        f"peak memory {record['peak_memory_mib']:.0f} MiB"
    )


if __name__ == "__main__":
    app.run(main)
