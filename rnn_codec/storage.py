"""Files: read whole or not at all, written whole or not at all, faults in one line."""

import contextlib
import errno
import io
import os
import secrets

from rnn_codec.errors import CodecError, one_line

# What never ends, such as /dev/zero, must not fill the memory.
_MAX_FILE_BYTES = 2**31


def read_bytes(path) -> bytes:
    """The contents of a file; `CodecError` if it is missing, a folder, or not to be read."""
    try:
        with open(path, "rb") as file:
            return read_stream(file, path)
    except FileNotFoundError as error:
        raise CodecError(f"{path}: expected a file, found none; check the path") from error
    except IsADirectoryError as error:
        raise CodecError(f"{path}: expected a file, found a folder; name a file in it") from error
    except OSError as error:
        raise CodecError(
            f"{path}: expected a readable file, received an error ({_reason(error)}); check its "
            "permissions and its disk"
        ) from error


def read_stream(file, name) -> bytes:
    """All that an open binary file holds; `CodecError` as soon as it is more than 2 GiB."""
    data = io.BytesIO()
    while block := file.read(2**20):
        data.write(block)
        if data.tell() > _MAX_FILE_BYTES:
            raise CodecError(
                f"{name}: expected at most {_MAX_FILE_BYTES:,} bytes, received more; name another "
                "file"
            )
    return data.getvalue()


def write_atomically(path, data: bytes):
    """Writes a file so that its name shows the old contents or the new ones, never a part.

    The data go to a new file in the same folder, reach the disk, and take the name in one step.
    A link stays one (its target is replaced). What is no regular file, such as `/dev/null`
    or a pipe, is written to directly: it must not be replaced.

    Raises:
        CodecError: the file cannot be written. Nothing is left behind.
    """
    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(data)
        else:
            _replace(os.path.realpath(path), data)
    except OSError as error:
        raise CodecError(_write_fault(path, error)) from error


def _replace(path, data):
    temporary = os.path.join(os.path.dirname(path), f".rnn_codec-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are private to their owner, and ours should follow the umask.
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt at the keyboard too
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_fault(path, error) -> str:
    folder = os.path.dirname(path) or "."
    if isinstance(error, IsADirectoryError):
        return f"{path}: expected a file to write, found a folder; name a file in it"
    if isinstance(error, FileNotFoundError):
        return f"{path}: expected an existing folder {folder}, found none; create it first"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{path}: expected a writable folder {folder} ({_reason(error)}); choose another"
    return f"{path}: could not be written ({_reason(error)}); check the disk or choose another"


def _reason(error) -> str:
    """An `OSError` without the paths that its text repeats."""
    return error.strerror or one_line(error)
