"""Named codecs: a configuration, weights and their identity.

A preset is a folder with `config.json`, `model.weights.npz` (float16 arrays, no pickles: loading
runs no code), `README.md`, the model card, and, once its context model is trained, `context.npz`
(integers). Those that ship lie in `weights/` beside this module.

`config.json` names the wing (`"codec"`) and states the preset's identity, which every file that
the preset writes carries. So a file finds its preset without any weights being read; when weights
are loaded, it is checked that they are what the identity says.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
from typing import Any
import zipfile

import numpy as np

from rnn_codec import storage, wings
from rnn_codec.configuration import JsonConfig
from rnn_codec.entropy import context_model
from rnn_codec.errors import PresetError

CONFIGS = {config.name: config for wing in wings.every() for config in wing.presets}
DEFAULT = wings.every()[0].default

# Folders to find presets in, beside those that ship: each is one, or holds some.
PATH_VARIABLE = "RNN_CODEC_PRESETS"

# Presets of version 0.8 and before name no wing if they are of this one, and state no identity.
_FIRST_WING = "recurrent"

_CONFIG_FILE, _WEIGHTS_FILE, _CONTEXT_FILE = "config.json", "model.weights.npz", "context.npz"
_SHIPPED = os.path.join(os.path.dirname(__file__), "weights")
_IDENTITY_BYTES = 8
_MAX_UNPACKED_BYTES = 2**30  # of an archive of weights; the largest network here has 64 MB


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration and, unless it is only to be trained, weights."""

    config: JsonConfig
    weights: dict[str, np.ndarray] | None  # variable path -> float16 array
    context: dict[str, np.ndarray] | None = None  # of a `context_model.ContextModel`, integers

    @property
    def identity(self) -> bytes:
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


def names() -> list[str]:
    """All presets known by name, the default first."""
    return list(CONFIGS)


def shipped() -> list[str]:
    """Names of the presets whose trained weights are in the package."""
    return [name for name in CONFIGS if os.path.isdir(os.path.join(_SHIPPED, name))]


def load(name: str | None = None, load_weights: bool = True) -> Preset:
    """The preset of a name, or of a folder that `save` wrote.

    Args:
        name: str. Defaults to the default preset.
        load_weights: bool. Without, the weights are None.

    Raises:
        PresetError: unknown, damaged, or without weights.
    """
    name = name or DEFAULT
    folder = _folder_of(name)
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
    config_path = os.path.join(folder, _CONFIG_FILE)
    config, stated = _read_config(config_path)
    if not load_weights:
        return Preset(config, None)
    weights = _read_arrays(os.path.join(folder, _WEIGHTS_FILE))
    preset = Preset(config, weights, _read_context(folder, config))
    if stated not in (None, preset.identity):
        raise PresetError(
            f"{config_path}: expected weights of model {stated.hex()}, received those of model "
            f"{preset.identity.hex()} beside it; one of the files was changed: fetch the preset "
            "again"
        )
    return preset


def find(identity: bytes) -> str | None:
    """The name or the folder of the preset with an identity; None if none is known.

    Those that ship are looked at first, then the folders that `$RNN_CODEC_PRESETS` names.
    """
    places = [*shipped(), *_folders_of_path()]
    return next((place for place in places if identity_at(place) == identity), None)


def _folder_of(name):
    # A name wins over a folder of that name which happens to lie in the working directory.
    return os.path.join(_SHIPPED, name) if name in CONFIGS else name


def _folders_of_path():
    """The presets' folders that the environment variable names."""
    for folder in filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep)):
        below = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for candidate in (folder, *(os.path.join(folder, name) for name in below)):
            if os.path.exists(os.path.join(candidate, _CONFIG_FILE)):
                yield candidate


def identity_at(place: str) -> bytes | None:
    """What the preset at a place says that it is; None if it is damaged."""
    folder = _folder_of(place)
    try:
        _, stated = _read_config(os.path.join(folder, _CONFIG_FILE))
        if stated is not None:
            return stated
        modified = os.stat(os.path.join(folder, _WEIGHTS_FILE)).st_mtime_ns
        return _computed_identity(folder, modified)
    except (PresetError, OSError):
        return None


@functools.cache
def _computed_identity(folder, modified):
    """The identity of a preset that states none, from its weights."""
    del modified  # other weights, another call
    return load(folder).identity


def from_network(network: Any) -> Preset:
    """The preset of a network as it is now."""
    weights = {}
    for variable in network.weights:
        weights[variable.path] = np.asarray(variable).astype(np.float16)
    return Preset(network.config, weights)


def assign(preset: Preset, network: Any) -> None:
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


def save(preset: Preset, folder: str) -> None:
    """Writes configuration and weights; a model card beside them is left alone."""
    os.makedirs(folder, exist_ok=True)
    _write_arrays(os.path.join(folder, _WEIGHTS_FILE), preset.weights)
    path = os.path.join(folder, _CONTEXT_FILE)
    if preset.context is not None:
        _write_arrays(path, preset.context)
    elif os.path.exists(path):
        os.remove(path)  # it was of other weights
    kind = {"codec": wings.of(preset.config).name, "identity": preset.identity.hex()}
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
    """A configuration, and the identity stated beside it or None."""
    try:
        with open(path, encoding="utf-8") as file:
            values = dict(json.load(file))
        wing = wings.named(values.pop("codec", _FIRST_WING))
        stated = values.pop("identity", None)
        config = wing.config.from_dict(values)
        return config, None if stated is None else bytes.fromhex(stated)
    except (OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise PresetError(f"{path}: expected a codec's configuration; {error}") from error


def _read_context(folder, config):
    """The arrays of the context model in a folder; None if there is none."""
    path = os.path.join(folder, _CONTEXT_FILE)
    check = wings.of(config).check_context
    if check is None or not os.path.exists(path):
        return None
    context = _read_arrays(path)
    try:
        context_model.check(context)
        check(context, config)
    except ValueError as error:
        raise PresetError(f"{path}: {error}") from error
    return context


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
