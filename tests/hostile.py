"""Hostile `.rnnc` files, and what holds for all of them: for tests/fuzz_test.py and fuzz/.

A flipped bit rarely gets past a checksum. So files are taken apart here, changed, and put together
with the right checksums, written without the module under test.
"""

import dataclasses
import functools
import pathlib
import warnings

import google_crc32c

from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError

GOLDEN = pathlib.Path(__file__).parent / "golden"
SEEDS = [path.read_bytes() for path in sorted(GOLDEN.glob("*/*/*.rnnc"))]


def _made(**fields):
    """A file that is in no golden set, with metadata; its payloads mean nothing."""
    last = fields["runs"][-1].plane if "runs" in fields else 0
    model_id = b"12345678" if "runs" in fields else bitstream.NO_MODEL
    header = bitstream.Header(40, 17, True, False, last + 1, model_id)
    return bitstream.write(header, metadata=bitstream.Metadata(exif=b"Exif\0\0"), **fields)


# Files for the parser alone: of runs, the last plane whole or begun, and of a lossless picture.
_RUNS = [
    bitstream.Run(plane, first, last, bytes(range(first, last)))
    for plane in range(3)
    for first, last in ((0, 9), (10, 129), (130, 149))
]
MADE = [
    _made(runs=_RUNS, channels=150),
    _made(runs=_RUNS[:5], channels=150),
    _made(runs=_RUNS[:1], channels=10),
    _made(lossless=b"RIFF....WEBPVP8L...."),
]

# What the decoder is tried with: most sizes of `_NUMBERS` are above it, the golden files below.
LIMITS = bitstream.Limits(max_pixels=2**15)

_FIELDS_BYTES = len(bitstream.SIGNATURE) + 3  # signature, version, colour, iterations
_MODEL_ID_BYTES = 8
_NUMBERS = (0, 1, 15, 16, 17, 40, 127, 128, 2**14, 2**16, 2**31 - 1, 2**31, 2**35)
_KINDS = b"PRLASiexqQ\x00"
_BYTES = (0, 1, 2, 3, 4, 127, 254, 255)


# ---- Making them ----


@dataclasses.dataclass
class Parts:
    """A file taken apart; lengths and checksums are left out, as `join` computes them."""

    fields: bytearray  # signature, format version, colour, iterations
    size: list[int]  # width, height
    model_id: bytes
    chunks: list[tuple[int, bytes]]  # type and body
    rest: bytes  # what follows the last whole chunk


def split(data):
    """Takes apart an intact file, or its beginning from the header on. No checksum is compared."""
    fields = bytearray(data[:_FIELDS_BYTES])
    width, position = _read_number(data, _FIELDS_BYTES)
    height, position = _read_number(data, position)
    model_id = data[position : position + _MODEL_ID_BYTES]
    position += _MODEL_ID_BYTES + 4
    chunks = []
    while position < len(data):
        length, start = _read_number(data, position + 1)
        if start + length + 4 > len(data):
            break
        chunks.append((data[position], data[start : start + length]))
        position = start + length + 4
    return Parts(fields, [width, height], model_id, chunks, data[position:])


def join(parts):
    """The file of these parts, whatever they say."""
    numbers = b"".join(_number(value) for value in parts.size)
    header = _with_checksum(bytes(parts.fields) + numbers + parts.model_id)
    chunks = [
        _with_checksum(bytes([kind]) + _number(len(body)) + body) for kind, body in parts.chunks
    ]
    return header + b"".join(chunks) + parts.rest


def mutate(data, rng, scramble=None):
    """A hostile variant of a file.

    Args:
        data: bytes. Any; what is no file from its header on is replaced by a golden file.
        rng: `random.Random`.
        scramble: function from bytes to other bytes. Defaults to changes of single bytes.

    Returns:
        bytes, four times of five with checksums that fit.
    """
    scramble = scramble or (lambda part: _change_bytes(part, rng))
    is_file = data.startswith(bitstream.SIGNATURE) and len(data) > _FIELDS_BYTES
    parts = split(data if is_file else rng.choice(SEEDS))
    for _ in range(rng.randint(1, 3)):
        rng.choice(_CHANGES)(parts, rng, scramble)
    mutated = join(parts)
    return mutated if rng.randrange(5) else scramble(mutated)


def _change_size(parts, rng, scramble):
    parts.size[rng.randrange(2)] = rng.choice(_NUMBERS)


def _change_field(parts, rng, scramble):
    position = rng.randrange(len(bitstream.SIGNATURE), _FIELDS_BYTES)
    parts.fields[position] = rng.choice(_BYTES)


def _change_model(parts, rng, scramble):
    parts.model_id = split(rng.choice(SEEDS)).model_id


def _change_body(parts, rng, scramble):
    if parts.chunks:
        index = rng.randrange(len(parts.chunks))
        kind, body = parts.chunks[index]
        parts.chunks[index] = (kind, scramble(body))


def _change_plane(parts, rng, scramble):
    """Another iteration or coder, so that payloads reach coders that did not write them."""
    planes = [index for index, (kind, body) in enumerate(parts.chunks) if kind == ord("P") and body]
    if planes:
        index = rng.choice(planes)
        body = bytearray(parts.chunks[index][1])
        body[rng.randrange(min(2, len(body)))] = rng.choice(_BYTES)
        parts.chunks[index] = (ord("P"), bytes(body))


def _change_run(parts, rng, scramble):
    """Another place or count."""
    runs = [index for index, (kind, body) in enumerate(parts.chunks) if kind == ord("R") and body]
    if runs:
        index = rng.choice(runs)
        body = bytearray(parts.chunks[index][1])
        body[rng.randrange(min(4, len(body)))] = rng.choice(_BYTES)
        parts.chunks[index] = (ord("R"), bytes(body))


def _change_length(parts, rng, scramble):
    if parts.chunks:
        index = rng.randrange(len(parts.chunks))
        kind, body = parts.chunks[index]
        longer = body + rng.randbytes(rng.choice((1, 4, 200)))
        parts.chunks[index] = (kind, rng.choice((body[: rng.randint(0, len(body))], longer)))


def _change_kind(parts, rng, scramble):
    if parts.chunks:
        index = rng.randrange(len(parts.chunks))
        parts.chunks[index] = (rng.choice(_KINDS), parts.chunks[index][1])


def _remove(parts, rng, scramble):
    if parts.chunks:
        del parts.chunks[rng.randrange(len(parts.chunks))]


def _repeat(parts, rng, scramble):
    if parts.chunks:
        parts.chunks.insert(rng.randint(0, len(parts.chunks)), rng.choice(parts.chunks))


def _insert(parts, rng, scramble):
    """A chunk of another file."""
    chunk = rng.choice(split(rng.choice(SEEDS + MADE)).chunks)
    parts.chunks.insert(rng.randint(0, len(parts.chunks)), chunk)


def _shuffle(parts, rng, scramble):
    rng.shuffle(parts.chunks)


def _cut(parts, rng, scramble):
    """Ends the file inside a chunk or after it."""
    del parts.chunks[rng.randint(0, len(parts.chunks)) :]
    parts.rest = rng.choice((b"", b"P", b"P\x05\x00", b"P\xff\xff\xff\xff\x07", bytes(100)))


_CHANGES = (
    _change_size,
    _change_field,
    _change_model,
    _change_body,
    _change_plane,
    _change_run,
    _change_length,
    _change_kind,
    _remove,
    _repeat,
    _insert,
    _shuffle,
    _cut,
)


def _change_bytes(data, rng):
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3) if data else 0):
        changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)
    return bytes(changed)


def _read_number(data, position):
    """A number of any length, 0 after the end of the data, and the position after it."""
    value, shift = 0, 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, position


def _number(value):
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _with_checksum(data):
    return data + google_crc32c.value(data).to_bytes(4, "little")


# ---- What holds for all of them ----


def attempt(function, *args, **kwargs):
    """The result of a function, or None for a `CodecError`, which has to be of one line."""
    try:
        return function(*args, **kwargs)
    except CodecError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        return None


def check_parser(data):
    """Reads data in every way that needs no network; raises whatever reading must not raise."""
    info = attempt(bitstream.read_info, data)
    contents = attempt(bitstream.read, data)
    strict = attempt(bitstream.read, data, strict=True)
    if contents is None:
        assert strict is None
        return
    held = contents.planes or contents.runs or (contents.lossless,)
    ends = contents.run_ends or contents.plane_ends
    assert len(held) == len(ends) >= 1
    assert (contents.lossless is None) == bool(contents.planes or contents.runs)
    assert 0 <= contents.iterations <= contents.header.iterations
    assert info.iterations == contents.iterations
    assert info.bytes_at_iteration == contents.plane_ends
    assert tuple(point.bytes for point in info.points) == contents.run_ends
    assert (strict is None) == bool(contents.warnings)
    for kept in {1, contents.iterations}:
        shorter = attempt(bitstream.truncate, data, kept)
        if contents.lossless is not None or not 1 <= kept <= contents.iterations:
            assert shorter is None
        else:
            _check_truncated(contents, shorter)
            assert bitstream.read(shorter).iterations == kept
    for end in {ends[0], ends[-1]}:
        shorter = bitstream.truncate(data, max_bytes=end)
        assert len(shorter) <= end
        _check_truncated(contents, shorter)


def _check_truncated(contents, data):
    """What `truncate` gave for a file is a beginning of it."""
    shorter = bitstream.read(data)
    counted = bitstream.read_info(data).iterations_written
    assert shorter.header == dataclasses.replace(contents.header, iterations=counted)
    assert shorter.planes == contents.planes[: len(shorter.planes)]
    assert shorter.runs == contents.runs[: len(shorter.runs)]
    assert shorter.lossless == contents.lossless


def check_decoder(data):
    """Restores all pictures of a file and writes them; raises whatever that must not raise."""
    contents = attempt(bitstream.read, data, limits=LIMITS)
    codec = _codec(contents.header.model_id if contents else None)
    planes = attempt(codec.read_planes, data, limits=LIMITS)
    decoded = attempt(lambda: list(codec.decode_picture(data, "all", limits=LIMITS)))
    if contents is None:
        assert planes is decoded is None
    if decoded is None:
        return
    header, counts = contents.header, range(1, len(contents.planes) + 1)
    assert len(planes) == len(counts)
    assert [count for count, _ in decoded] == list(counts)
    for _, picture in decoded:
        assert (picture.width, picture.height) == (header.width, header.height)
        assert picture.is_rgb == header.is_rgb
        assert picture.alpha is None or picture.alpha.shape == picture.pixels.shape[:2]
    _check_written(decoded[-1][1])


def _check_written(picture):
    """Formats that between them parse the EXIF, turn by it, and hold every block."""
    from rnn_codec.pictures import writing

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for image_format in ("png", "jpeg", "tiff", "bmp"):
            attempt(writing.picture_bytes, picture, image_format)
            writing.unstored_metadata(picture, image_format)
    assert not caught, caught[0]


def _codec(model_id):
    """The tiny codec that wrote a file; any of them for a file of another, which it must refuse."""
    # Not at the top: it imports Keras, which the parser does without.
    from tests import testing

    return testing.make_codec(_presets().get(model_id, testing.BLOCKS))


@functools.cache
def _presets():
    """The names of the tiny presets by their identities."""
    from rnn_codec import presets

    folders = [path.parent for path in GOLDEN.glob("*/config.json")]
    return {presets.load(str(folder)).identity: folder.name for folder in folders}
