"""What tests of the format share: files of any chunks, and the examples of docs/bitstream.md."""

import pathlib
import re

import google_crc32c
import hypothesis

from rnn_codec.container import bitstream
from rnn_codec.container.bitstream import Header, Plane

MODEL_ID = bytes.fromhex("0123456789abcdef")

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "bitstream.md"

SETTINGS = hypothesis.settings(max_examples=60, deadline=None, database=None)


def make_header(**changes):
    fields = dict(
        width=200, height=100, is_rgb=True, has_alpha=False, iterations=3, model_id=MODEL_ID
    )
    return Header(**(fields | changes))


def make_chunk(kind, body):
    """One chunk with a body below 128 bytes, written without the module under test."""
    fields = kind + bytes([len(body)]) + body
    return fields + google_crc32c.value(fields).to_bytes(4, "little")


def make_file(*chunks, **changes):
    """A file of any chunks after an intact header."""
    header = make_header(**changes)
    planes = [Plane(0, b"")] * header.iterations
    only_planes = bitstream.write(header, planes, alpha=b"" if header.has_alpha else None)
    header_bytes = 26  # 200 takes two bytes
    return only_planes[:header_bytes] + b"".join(chunks)


def documented_variables(example=0):
    """What the code of an example in the document leaves."""
    code = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    variables = {}
    exec("".join(code[: example + 1]), variables)
    return variables


def documented_dump(example=0):
    """The bytes of a hex dump in the document; its text column has to agree with them."""
    dumps = []
    lines = re.findall(r"^([0-9a-f]{8})  ([0-9a-f ]{47})  \|(.+)\|$", DOCUMENT.read_text(), re.M)
    for offset, text, characters in lines:
        row = bytes.fromhex(text)
        if int(offset, 16) == 0:
            dumps.append(b"")
        assert int(offset, 16) == len(dumps[-1]), offset
        assert characters == "".join(chr(b) if 32 <= b < 127 else "." for b in row), characters
        dumps[-1] += row
    return dumps[example]


def documented_rows(example=0):
    """The bytes that the table of an example explains, which may leave none out."""
    tables = []
    rows = re.findall(r"^\| (\d+) \| `([0-9a-f ]+)` \|.*\|$", DOCUMENT.read_text(), re.MULTILINE)
    for offset, text in rows:
        if int(offset) == 0 and text.startswith("89"):
            tables.append(b"")
        assert int(offset) == len(tables[-1]), offset
        tables[-1] += bytes.fromhex(text)
    return tables[example]
