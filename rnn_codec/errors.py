"""The faults a caller can expect from rnn_codec.

Whatever is wrong with a file or a request is a `CodecError`, with one line that says what was
expected, what was received and what to do. Wrong use of the library itself (a misspelt argument
value in code) stays a `ValueError`.
"""


class CodecError(Exception):
    """A file or a request that the codec cannot serve; `str(error)` is one line for the user."""


class BitstreamError(CodecError):
    """A `.rnnc` file that is not one, is damaged, or needs a newer reader."""


class ModelMismatchError(CodecError):
    """A `.rnnc` file that was written with another model than the one at hand."""


class ImageError(CodecError):
    """A picture that cannot be read, or whose pixels the codec does not handle."""


class PresetError(CodecError):
    """A preset that is unknown, incomplete or damaged."""


def one_line(error: BaseException) -> str:
    """The text of any exception in one line, or its type where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
