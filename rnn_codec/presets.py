"""Named codecs: a configuration, weights and their identity.

A preset is a folder with `config.json`, `model.weights.npz` (float16 arrays, no pickles: loading
runs no code), `README.md`, the model card, and, once its context model is trained, `context.npz`
(integers). Those that ship lie in `weights/` beside this module.
The paper's family is here by name too, as configurations to train.

A preset is of the recurrent codec, unless `config.json` has `"codec": "hybrid"`: then it is of the
networks around a standard codec, and its configuration is a `HybridConfig`.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import zipfile

import numpy as np

from rnn_codec import storage
from rnn_codec.entropy import context_model
from rnn_codec.errors import PresetError
from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.recurrent.config import CodecConfig

DEFAULT, DEFAULT_HYBRID = "two_scale_gru", "hybrid"

# RecCNN that takes a quarter of the time and learns in hundreds of steps: docs/results/hybrid.md.
_QUICK = {"block": 2, "batch_normalisation": False, "shortcuts": True}

CONFIGS = {
    config.name: config
    for config in (
        # The product: recurrent at 1/8 and 1/16 only. Why: docs/results/training.md.
        CodecConfig(
            DEFAULT,
            architecture="wide_two_scale",
            encoder_cell="gru",
            decoder_cell="gru",
            iterations=8,
            stochastic_bits=False,
            encoder_sees_image=True,
            residual_scale=4.0,
            atoms=64,
            good_enough=0.12,
        ),
        # Toderici et al., 2017, as published.
        CodecConfig("residual_gru"),
        CodecConfig("gru", encoder_cell="gru", decoder_cell="gru"),
        CodecConfig("lstm", encoder_cell="lstm", decoder_cell="lstm"),
        # Associative memory paid in the decoder only, so the paper's encoder stays an LSTM.
        CodecConfig("associative_lstm", encoder_cell="lstm", decoder_cell="associative_lstm"),
        HybridConfig(
            DEFAULT_HYBRID, networks="all", highest_quality=95, conditioned=True, **_QUICK
        ),
        # Jiang et al., 2017, and its parts alone. The paper measures where JPEG of the picture has
        # a quality of 5 to 10; at half the size, one of about 20 to 60 takes as many bytes.
        HybridConfig("hybrid_grey", colour="grey", lowest_quality=15, highest_quality=65),
        HybridConfig(
            "compact_grey",
            networks="compact",
            colour="grey",
            lowest_quality=15,
            highest_quality=65,
        ),
        HybridConfig(
            "restoration_grey",
            networks="restoration",
            colour="grey",
            lowest_quality=4,
            highest_quality=12,
        ),
    )
}

_CONFIG_KINDS = {"recurrent": CodecConfig, "hybrid": HybridConfig}
_CONFIG_FILE, _WEIGHTS_FILE, _CONTEXT_FILE = "config.json", "model.weights.npz", "context.npz"
_SHIPPED = os.path.join(os.path.dirname(__file__), "weights")
_IDENTITY_BYTES = 8
_MAX_UNPACKED_BYTES = 2**30  # of an archive of weights; the largest network here has 64 MB


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration and, unless it is only to be trained, weights."""

    config: CodecConfig | HybridConfig
    weights: dict | None  # variable path -> float16 array
    context: dict | None = None  # the integer arrays of a `context_model.ContextModel`

    @property
    def identity(self):
        """8 bytes that name the model in a file: a hash of configuration and weights.

        Of weights and context model, everything. Of the configuration, what differs from the
        defaults and defines the network: neither the name nor a field that a later version adds may
        make a file unreadable.
        """
        digest = hashlib.sha256(_defining_json(self.config))
        for path, array in sorted({**self.weights, **(self.context or {})}.items()):
            digest.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()[:_IDENTITY_BYTES]


def names():
    """All presets known by name, the default first."""
    return list(CONFIGS)


def shipped():
    """Names of the presets whose trained weights are in the package."""
    return [name for name in CONFIGS if os.path.isdir(os.path.join(_SHIPPED, name))]


def load(name=None, load_weights=True):
    """The preset of a name, or of a folder that `save` wrote.

    Args:
        name: str. Defaults to the default preset.
        load_weights: bool. Without, the weights are None.

    Raises:
        PresetError: unknown, damaged, or without weights.
    """
    name = name or DEFAULT
    # A name wins over a folder of that name which happens to lie in the working directory.
    folder = os.path.join(_SHIPPED, name) if name in CONFIGS else name
    if not os.path.isdir(folder):
        if name not in CONFIGS:
            raise PresetError(
                f"{name!r}: expected a preset's folder or one of {', '.join(CONFIGS)}"
            )
        if load_weights:
            raise PresetError(
                f"{name!r}: no trained weights ship for it, only for {', '.join(shipped())}; "
                f"train it with train.py --preset={name} and give the folder it writes"
            )
        return Preset(CONFIGS[name], None)
    config = _read_config(os.path.join(folder, _CONFIG_FILE))
    weights = _read_arrays(os.path.join(folder, _WEIGHTS_FILE)) if load_weights else None
    path = os.path.join(folder, _CONTEXT_FILE)
    context = None
    if load_weights and isinstance(config, CodecConfig) and os.path.exists(path):
        context = _read_arrays(path)
        _check_context(context, config, path)
    return Preset(config, weights, context)


def find(identity):
    """The name of the shipped preset with this identity, or None."""
    return next((name for name in shipped() if _shipped_identity(name) == identity), None)


@functools.cache
def _shipped_identity(name):
    return load(name).identity


def from_network(network):
    """The preset of a network as it is now."""
    weights = {}
    for variable in network.weights:
        weights[variable.path] = np.asarray(variable).astype(np.float16)
    return Preset(network.config, weights)


def assign(preset, network):
    """Gives a network the weights of a preset.

    Raises:
        PresetError: names or shapes differ.
    """
    expected = {variable.path: tuple(variable.shape) for variable in network.weights}
    received = {path: array.shape for path, array in preset.weights.items()}
    if expected != received:
        differing = sorted(set(expected.items()) ^ set(received.items()))[0]
        raise PresetError(
            f"preset {preset.config.name!r}: its weights are of another network; the first "
            f"difference is {differing[0]}, {list(differing[1])}"
        )
    for variable in network.weights:
        variable.assign(preset.weights[variable.path].astype(np.float32))


def save(preset, folder):
    """Writes configuration and weights; a model card beside them is left alone."""
    os.makedirs(folder, exist_ok=True)
    _write_arrays(os.path.join(folder, _WEIGHTS_FILE), preset.weights)
    path = os.path.join(folder, _CONTEXT_FILE)
    if preset.context is not None:
        _write_arrays(path, preset.context)
    elif os.path.exists(path):
        os.remove(path)  # it was of other weights
    kind = {"codec": "hybrid"} if isinstance(preset.config, HybridConfig) else {}
    text = json.dumps({**kind, **preset.config.to_dict()}, indent=2) + "\n"
    storage.write_atomically(os.path.join(folder, _CONFIG_FILE), text.encode())


def _write_arrays(path, arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    storage.write_atomically(path, buffer.getvalue())


def _defining_json(config):
    defaults = type(config)(config.name).to_dict()
    values = {key: value for key, value in config.to_dict().items() if value != defaults[key]}
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _read_config(path):
    try:
        with open(path, encoding="utf-8") as file:
            values = dict(json.load(file))
            kind = _CONFIG_KINDS[values.pop("codec", "recurrent")]
            return kind.from_dict(values)
    except (OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise PresetError(f"{path}: expected a codec's configuration; {error}") from error


def _read_arrays(path):
    try:
        _check_unpacked_size(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # noqa: BLE001 (damaged archives raise of a dozen types)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PresetError(f"{path}: expected an archive of arrays; {reason}") from error


def _check_unpacked_size(path):
    """A small archive may unpack to more than there is memory; ValueError if it would."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _MAX_UNPACKED_BYTES:
        raise ValueError(f"it declares {size:,} bytes, above {_MAX_UNPACKED_BYTES:,}")


def _check_context(context, config, path):
    try:
        context_model.check(context)
    except ValueError as error:
        raise PresetError(f"{path}: {error}") from error
    received = context["known"].shape[0], context["known"].shape[3]
    if received != (config.iterations, config.bits):
        raise PresetError(
            f"{path}: expected the context model of {config.iterations} iterations of "
            f"{config.bits} bits, received one of {received[0]} of {received[1]}; train it for "
            "this preset"
        )
