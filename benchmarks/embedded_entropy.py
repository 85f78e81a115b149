"""Payload bits of the embedded codec's planes against the estimate that its training minimises.

    python benchmarks/embedded_entropy.py --weights=REFERENCE.npz --model=MODEL.npz --photos=FOLDER

On the validation photographs of the folder, cropped to multiples of 16. By iteration: bytes of the
payloads so far, in the suggested runs; their bits over those of the reference's estimate, which
codes a plane at once; PSNR of what is decoded, less that of the true indices (coefficients that are
hardly ever significant are not coded); the share of coefficients of that plane that were coded.
Then the seconds to decode the payloads of 6 planes of a 768x512 picture, and to synthesise it.
"""

import time

from absl import app, flags
import numpy as np

from rnn_codec.commands import files

_WEIGHTS = flags.DEFINE_string("weights", None, "Archive of the reference.", required=True)
_MODEL = flags.DEFINE_string("model", None, "Archive of an entropy model.", required=True)
_PHOTOS = flags.DEFINE_string("photos", None, "Folder of photographs.", required=True)
_COUNT = flags.DEFINE_integer("count", 50, "Photographs.", 1)
_PIXELS = flags.DEFINE_integer("pixels", 0, "The least that a photograph must have.")
_RUNS = flags.DEFINE_integer("runs", 5, "Timed runs, of which the best counts. 0: no timing.", 0)
_TIMED_PLANES = 6

_ROW = "{:>9} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}"


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.embedded import entropy_model

    network, rate = _networks()
    with np.load(_MODEL.value) as file:
        model = entropy_model.EntropyModel({name: file[name] for name in file.files})
    pictures = _pictures()
    found = np.mean([_measure(network, rate, model, picture) for picture in pictures], axis=0)
    print(
        f"{len(pictures)} photographs of {np.mean([p.size / 3e6 for p in pictures]):.2f} megapixels"
    )
    header = "iteration bytes bpp estimate payload psnr_db lost_db coded".split()
    print(_ROW.format(*header))
    for iteration, row in enumerate(found, 1):
        size, bits, estimate, psnr, lost, coded = row
        figures = f"{bits:.4f}", f"{estimate:.4f}", f"{100 * bits / estimate:.1f} %", f"{psnr:.2f}"
        print(_ROW.format(iteration, f"{size:.0f}", *figures, f"{lost:.3f}", f"{coded:.3f}"))
    if _RUNS.value:
        _time(network, model, _picture_of(pictures, 512, 768))


def _networks():
    from rnn_codec.embedded import reference
    from rnn_codec.embedded.network import EmbeddedNetwork
    from rnn_codec.embedded.rate import RateEstimate

    config, weights, rate_weights = reference.from_reference(np.load(_WEIGHTS.value))
    network = EmbeddedNetwork.create(config)
    rate = RateEstimate(config.iterations, config.latents, name="rate")
    rate.build()
    for variable in network.variables:
        variable.assign(weights[variable.path])
    for variable in rate.variables:
        variable.assign(rate_weights[variable.path])
    return network, rate


def _pictures():
    """Validation photographs, uint8 `[H, W, 3]`."""
    from rnn_codec.training import data

    photos = data.PhotoFolder(_PHOTOS.value)
    pictures = [photos.load(item) for item in photos.validation]
    pictures = [p[: len(p) // 16 * 16, : p.shape[1] // 16 * 16] for p in pictures]
    return [p for p in pictures if p.size >= 3 * _PIXELS.value][: _COUNT.value]


def _picture_of(pictures, height, width):
    """One of a size, of mirrored copies of the largest photograph."""
    picture = max(pictures, key=np.size)
    rows = np.pad(np.arange(len(picture)), (0, height), "symmetric")[:height]
    columns = np.pad(np.arange(picture.shape[1]), (0, width), "symmetric")[:width]
    return picture[rows][:, columns]


def _measure(network, rate, model, picture):
    """Figures of each iteration: `[N, 6]`."""
    from rnn_codec.embedded import entropy_recipe, runs

    index = entropy_recipe.index_of(network, picture[None])[0]
    encoder = runs.RunEncoder(model, index)
    decoder = runs.RunDecoder(model, index.shape[:2])
    figures, size = [], 0
    for plane in range(model.planes):
        before = encoder.coded
        for first, last in _runs(model, plane):
            payload = encoder.encode(plane, first, last)
            decoder.decode(plane, first, last, payload)
            size += len(payload)
        true = np.sign(index) * (np.abs(index) >> model.planes - 1 - plane)
        if not np.array_equal(decoder.index(), encoder.index()):
            raise AssertionError("decoded indices differ from those that were encoded")
        psnr = [_psnr(network, picture, i, plane) for i in (decoder.index(), true)]
        bits = 8 * size / (picture.size / 3)
        estimate = _estimate(rate, true, plane)
        figures.append(
            (
                size,
                bits,
                estimate,
                psnr[0],
                psnr[1] - psnr[0],
                (encoder.coded - before) / index.size,
            )
        )
    return np.array(figures)


def _runs(model, plane):
    ends = np.unique(model.runs[plane]).tolist()
    return list(zip(ends, ends[1:]))


def _known(plane, latents):
    return np.full((1,), plane, np.int32), np.full((1, latents), plane, np.int32)


def _estimate(rate, index, plane):
    planes, known = _known(plane, index.shape[-1])
    index = index[None].astype(np.float32)
    return float(np.asarray(rate(index, index=index, known=known, plane=planes))[0])


def _psnr(network, picture, index, plane):
    planes, known = _known(plane, index.shape[-1])
    sent = np.full((1,), index.shape[-1], np.int32)
    index = index[None].astype(np.float32)
    restored = np.asarray(network.reconstruct(index, known, planes, sent))[0]
    restored = np.rint(np.clip(127.5 * restored + 127.5, 0, 255))
    return 10 * np.log10(255**2 / np.mean((restored - picture) ** 2))


def _time(network, model, picture):
    from keras import ops

    from rnn_codec.embedded import entropy_recipe, runs

    index = entropy_recipe.index_of(network, picture[None])[0]
    encoder, payloads = runs.RunEncoder(model, index), []
    begin = time.perf_counter()
    for plane in range(_TIMED_PLANES):
        payloads += [(plane, *run, encoder.encode(plane, *run)) for run in _runs(model, plane)]
    encoding = time.perf_counter() - begin

    def decode():
        decoder = runs.RunDecoder(model, index.shape[:2])
        for run in payloads:
            decoder.decode(*run)
        return decoder.index()

    planes, planes_known = _known(_TIMED_PLANES - 1, model.latents)
    sent = np.full((1,), model.latents, np.int32)
    known = ops.convert_to_tensor(encoder.index()[None].astype(np.float32))
    synthesise = _compiled(lambda i: network.reconstruct(i, planes_known, planes, sent))
    synthesise(known)
    # In turns, so that both meet the same machine.
    times = np.array(
        [(_seconds(decode), _seconds(lambda: synthesise(known))) for _ in range(_RUNS.value)]
    ).min(axis=0)
    size = sum(len(run[-1]) for run in payloads)
    print(
        f"{picture.shape[1]}x{picture.shape[0]}, iteration {_TIMED_PLANES}, {size} bytes, "
        f"{encoder.events} events: encoding {encoding:.3f} s, decoding {times[0]:.3f} s, "
        f"synthesis {times[1]:.3f} s"
    )


def _compiled(function):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(function)
    return lambda x: np.asarray(function(x))


def _seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


if __name__ == "__main__":
    app.run(main)
