r"""Files written and read under different backends, threads and arithmetic: are the bits the same?

    python benchmarks/portability.py --images=kodak --output=matrix \
        --jax_python=.venv-jax/bin/python

Each writer codes all images in a process of its own; each reader reads every writer's files in
another and hashes the decoded bits. Prints a matrix of differences: all must be 0. Without
--jax_python the JAX rows and columns are left out.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

from absl import app, flags

_IMAGES = flags.DEFINE_string("images", None, "Folder of pictures.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the files.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_JAX_PYTHON = flags.DEFINE_string("jax_python", None, "Interpreter with Keras and JAX.")
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first images.")
# What a process of its own is asked to do.
_WRITE = flags.DEFINE_bool("write", False, "Internal.")
_READ = flags.DEFINE_bool("read", False, "Internal.")
_ARITHMETIC = flags.DEFINE_string("arithmetic", "numpy", "Internal.")
_BLOCK = flags.DEFINE_integer("block", None, "Internal.")

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
_TF, _JAX = {"KERAS_BACKEND": "tensorflow"}, {"KERAS_BACKEND": "jax"}

_WRITERS = {
    "tensorflow, one thread": ({**_TF, **_ONE_THREAD}, []),
    "tensorflow": (_TF, ["--arithmetic=keras"]),
    "tensorflow without oneDNN": (
        {**_TF, "TF_ENABLE_ONEDNN_OPTS": "0"},
        ["--arithmetic=keras"],
    ),
    "jax": (_JAX, ["--arithmetic=keras"]),
}
_READERS = {
    "tensorflow, one thread": ({**_TF, **_ONE_THREAD}, ["--arithmetic=keras"]),
    "numpy float32": (_TF, []),
    "numpy float32, other blocks": (_TF, ["--block=100"]),
    "jax": (_JAX, ["--arithmetic=keras"]),
    "definition, int64": (_TF, ["--arithmetic=definition"]),
}


def main(argv):
    del argv
    if _WRITE.value:
        _write()
    elif _READ.value:
        _read()
    else:
        return _compare()


def _compare():
    output = pathlib.Path(_OUTPUT.value)
    writers, readers = (
        {name: process for name, process in table.items() if _JAX_PYTHON.value or "jax" != name}
        for table in (_WRITERS, _READERS)
    )
    written = {}
    for name, (variables, arguments) in writers.items():
        folder = output / name.replace(" ", "_").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.rnnc"):
            path.unlink()  # of an earlier call
        written[name] = folder, _run(variables, ["--write", *arguments], folder)
    worst = 0
    for reader, (variables, arguments) in readers.items():
        for writer, (folder, expected) in written.items():
            found = _run(variables, ["--read", *arguments], folder)
            differing = sum(found[name] != digest for name, digest in expected.items())
            worst = max(worst, differing)
            print(f"{writer:28s} -> {reader:28s} {len(expected)} files, {differing} differ")
    return 1 if worst else 0


def _run(variables, arguments, folder):
    """The dictionary of file name to hash that a process prints."""
    python = _JAX_PYTHON.value if variables["KERAS_BACKEND"] == "jax" else sys.executable
    command = [python, __file__, f"--images={_IMAGES.value}", f"--output={folder}", *arguments]
    if _PRESET.value:
        command.append(f"--preset={_PRESET.value}")
    if _LIMIT.value:
        command.append(f"--limit={_LIMIT.value}")
    environment = {**os.environ, **variables, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def _write():
    from rnn_codec.codec import Codec
    from rnn_codec.container import bitstream
    from rnn_codec.pictures import reading
    from rnn_codec.pictures.picture import to_array

    codec = Codec.from_preset(_PRESET.value, arithmetic=_ARITHMETIC.value)
    digests = {}
    for path in sorted(pathlib.Path(_IMAGES.value).glob("*.png"))[: _LIMIT.value]:
        raw = codec.encode(to_array(reading.read_picture(path)), entropy="raw")
        planes = codec.read_planes(raw)  # as the transform made them, before any entropy coding
        coder = codec.plane_coder(planes[0].shape)
        packed = [coder.pack(plane, "neural") for plane in planes]
        name = path.stem + ".rnnc"
        data = bitstream.write(bitstream.read(raw).header, packed)
        pathlib.Path(_OUTPUT.value, name).write_bytes(data)
        digests[name] = _hash(planes)
    print(json.dumps(digests))


def _read():
    from rnn_codec.codec import Codec
    from rnn_codec.entropy import context_model

    if _BLOCK.value:
        context_model._BLOCK = _BLOCK.value
    codec = Codec.from_preset(_PRESET.value, arithmetic=_ARITHMETIC.value)
    digests = {
        path.name: _hash(codec.read_planes(path.read_bytes()))
        for path in sorted(pathlib.Path(_OUTPUT.value).glob("*.rnnc"))
    }
    print(json.dumps(digests))


def _hash(planes):
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


if __name__ == "__main__":
    app.run(main)
