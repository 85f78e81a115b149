"""What entropy coding saves on photographs, in bytes of real chunks, and what time it takes.

    python benchmarks/entropy.py --images=kodak --preset=two_scale_gru

For each iteration, over all images: bytes of the raw planes, of the adaptive model's and of the
context model's chunks as a file holds them, and, for comparison, the zero-order entropy (of each
channel's share of ones in all images, a bound for coders without context) and the cross-entropy
that the context model promises. Times are of one image, medians over five, the transform beside.
"""

import os
import pathlib
import statistics
import time

from absl import app, flags
import numpy as np
from tqdm import tqdm

from rnn_codec.entropy.planes import run

_IMAGES = flags.DEFINE_string("images", None, "Folder of pictures.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_TIMED = flags.DEFINE_bool("timed", True, "Whether to time coder and transform, too.")

_REPEATS = 5


def main(argv):
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from rnn_codec.codec import Codec
    from rnn_codec.pictures import reading
    from rnn_codec.pictures.picture import to_array

    codec = Codec.from_preset(_PRESET.value)
    if codec.context_model is None:
        raise app.UsageError(f"preset {codec.config.name} has no context model; train one first")
    paths = sorted(
        path
        for path in pathlib.Path(_IMAGES.value).iterdir()
        if path.suffix.lower() in reading.IMAGE_EXTENSIONS
    )
    images = [to_array(reading.read_picture(path)) for path in paths]
    coded = [
        codec.read_planes(codec.encode(image, entropy="raw"))
        for image in tqdm(images, disable=None)
    ]
    print(f"{len(paths)} images, preset {codec.config.name}, model {codec.identity.hex()}")
    _print_savings(codec, images, coded)
    if _TIMED.value:
        _print_times(codec, images[0], coded[0])


def _print_savings(codec, images, coded):
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    raw = np.sum([[_raw_bytes(plane) for plane in planes] for planes in coded], axis=0)
    adaptive = np.sum([_packed_bytes(codec, planes, "adaptive") for planes in coded], axis=0)
    neural = np.sum([_packed_bytes(codec, planes, "neural") for planes in coded], axis=0)
    promised = np.sum([_cross_entropy_bytes(codec, planes) for planes in coded], axis=0)
    columns = {
        "zero-order": _zero_order(coded) * raw,
        "adaptive": adaptive,
        "cross-entropy": promised,
        "neural": neural,
    }
    print("\nSaved of the raw planes, percent: this iteration | all up to it")
    print("iteration   raw bpp  " + "".join(f"{name:>18}" for name in columns) + "   neural bpp")
    for index in range(len(raw)):
        cells = []
        for values in columns.values():
            here = 100 * (1 - values[index] / raw[index])
            so_far = 100 * (1 - values[: index + 1].sum() / raw[: index + 1].sum())
            cells.append(f"{here:8.2f} | {so_far:7.2f}")
        before, after = (8 * sums[: index + 1].sum() / pixels for sums in (raw, neural))
        print(f"{index + 1:9d} {before:9.4f}  {''.join(cells)}    {after:9.4f}")
    excess = 100 * (neural.sum() / promised.sum() - 1)
    print(f"\nreal chunks over the model's own cross-entropy: {excess:.3f} %")


def _raw_bytes(plane):
    return -(-plane.size // 8)


def _packed_bytes(codec, planes, entropy):
    coder = codec.plane_coder(planes[0].shape)
    return [len(coder.pack(plane, entropy).payload) for plane in planes]


def _zero_order(coded):
    """Bits per bit of each iteration, if each channel had its own fixed probability."""
    result = []
    for index in range(len(coded[0])):
        bits = np.concatenate(
            [planes[index].reshape(-1, planes[index].shape[-1]) for planes in coded]
        )
        p = np.clip(bits.mean(axis=0), 1e-9, 1 - 1e-9)
        result.append(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)))
    return np.array(result)


def _cross_entropy_bytes(codec, planes):
    """Bytes that the context model's probabilities make of each plane."""
    costs = np.zeros(len(planes))

    def code(where, probabilities):
        p = probabilities / 65536
        costs[index] -= np.log2(np.where(plane[where], p, 1 - p)).sum() / 8
        return plane[where]

    for index, plane in enumerate(planes):
        run(codec.context_model, planes[:index], plane.shape, code)
    return costs


def _print_times(codec, image, planes):
    shape = planes[0].shape
    packed = []  # by the last call of the first function

    def pack():
        coder = codec.plane_coder(shape)
        packed[:] = [coder.pack(plane, "neural") for plane in planes]

    def unpack():
        coder = codec.plane_coder(shape)
        for plane in packed:
            coder.unpack(plane)

    raw = codec.encode(image, entropy="raw")
    times = {
        "transform, encode": lambda: codec.encode(image, entropy="raw"),
        "transform, decode": lambda: codec.decode(raw),
        "entropy, encode": pack,
        "entropy, decode": unpack,
    }
    times = {name: _median_seconds(work) for name, work in times.items()}
    print(f"\n{image.shape[1]} x {image.shape[0]}, {len(planes)} iterations, seconds (median):")
    for name, seconds in times.items():
        print(f"  {name:20s} {seconds:.4f}")
    transform = times["transform, encode"] + times["transform, decode"]
    entropy = times["entropy, encode"] + times["entropy, decode"]
    print(f"  entropy coding takes {100 * entropy / transform:.1f} % of the transform's time")


def _median_seconds(work):
    work()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    app.run(main)
