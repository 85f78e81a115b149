"""Everything a training run needs to go on as if it had not been stopped, in one file.

A checkpoint is an `.npz` of plain arrays (no pickles: loading one runs no code) under a temporary
name, then renamed, so that a process killed at any moment leaves the previous one whole.
"""

import io
import json
import os

import numpy as np

from rnn_codec import storage
from rnn_codec.errors import CodecError

FILE_NAME = "checkpoint.npz"


def save(path, groups, state):
    """Writes variables and a small state.

    Args:
        path: of the file.
        groups: dictionary of name to list of Keras variables.
        state: dictionary that JSON can hold.
    """
    arrays = {"state": np.frombuffer(json.dumps(state).encode(), np.uint8)}
    for group, variables in groups.items():
        for index, variable in enumerate(variables):
            arrays[f"{group}/{index:04d}/{variable.path}"] = np.asarray(variable)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    storage.write_atomically(path, buffer.getvalue())


def restore(path, groups):
    """Assigns the variables of a checkpoint and returns its state.

    Raises:
        CodecError: the file is missing, damaged, or of another model or optimiser.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json.loads(arrays.pop("state").tobytes())
    except Exception as error:  # noqa: BLE001 (damaged archives raise of a dozen types)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CodecError(f"{path}: expected a checkpoint of train.py; {reason}") from error
    for group, variables in groups.items():
        prefix = f"{group}/"
        saved = [arrays[name] for name in sorted(arrays) if name.startswith(prefix)]
        received = [value.shape for value in saved]
        expected = [tuple(variable.shape) for variable in variables]
        if received != expected:
            raise CodecError(
                f"{path}: its {group} holds {len(received)} arrays that do not fit the "
                f"{len(expected)} of this run; resume with the flags the run was started with, or "
                "give another --workdir"
            )
        for variable, value in zip(variables, saved):
            variable.assign(value)
    return state


def exists(folder):
    return os.path.exists(os.path.join(folder, FILE_NAME))
