"""Reads the chunks of a file by the table in `chunks`, as far as they are intact."""

import dataclasses

from rnn_codec.container import chunks, framing
from rnn_codec.container.framing import Damage
from rnn_codec.container.header import NO_MODEL, read_header
from rnn_codec.errors import BitstreamError


def read_chunks(data, strict, limits):
    """Returns a `Reader` that holds everything intact and some of the picture."""
    view = memoryview(data)
    header, position = read_header(view)
    _check_pixels(header, limits)
    reader = Reader(view, header, position, strict, limits)
    try:
        for span in framing.spans(view, position, limits.max_chunks):
            reader.add(span)
        reader.check_end()
    except Damage as damage:
        reader.stop(damage)
    reader.check_alpha()
    return reader


def _check_pixels(header, limits):
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise BitstreamError(
            f"expected at most {limits.max_pixels:,} pixels, received a file that declares "
            f"{header.width} x {header.height} = {pixels:,}; raise --max_pixels if it can be "
            "trusted"
        )


@dataclasses.dataclass(frozen=True)
class Step:
    """How far the picture goes with one of its chunks."""

    whole: int  # iterations
    channels: int  # of the next iteration; 0 if there are none
    end: int  # position after the chunk
    size: int  # bytes of a file that ends there and has nothing damaged in it

    @property
    def begun(self):
        """Iterations that are whole or begun: what the header counts."""
        return self.whole + (self.channels > 0)


class Reader:
    """What the chunks of one file have said so far.

    `add` takes the chunks in order. Where one cannot be used, it either warns and leaves it out, or
    raises `Damage`: then no later chunk can be used either.
    """

    def __init__(self, view, header, header_end, strict, limits):
        self.view = view
        self.header = header
        self._size = header_end  # of the file without what does not belong in it
        self._strict = strict
        self._limits = limits
        self.held = {kind.field: [] for kind in chunks.KINDS if kind.repeats}
        self._picture = None  # the kind of the chunks that hold it
        self.steps = []
        self._kept = []  # spans of the chunks that belong in the file
        self.warnings = []

    # -- From the first chunk to the last --

    def add(self, span):
        kind = chunks.BY_LETTER.get(span.letter)
        name = f"the {kind.name if kind else 'unknown'} {span}"
        is_fatal = kind.damage_is_fatal if kind else span.is_required
        limit = getattr(self._limits, kind.limit) if kind and kind.limit else span.body_bytes
        if span.body_bytes > limit:
            excess = f"{name} has {span.body_bytes} bytes, the limit is {limit}"
            if is_fatal:
                raise BitstreamError(f"{excess}; raise {kind.limit} if the file can be trusted")
            self._warn(f"{excess}; it is dropped")
            return
        try:
            body = framing.read_body(self.view, span, name)
        except Damage as damage:
            if is_fatal:
                raise
            self._warn(f"{damage}; it is dropped")
            return
        if kind:
            self._use(kind, span, body, name)
        elif span.is_required:
            raise BitstreamError(
                f"the file needs {name}, which this reader cannot use; "
                "decode it with a newer rnn_codec"
            )
        else:
            self._keep(span)

    def _use(self, kind, span, body, name):
        """Takes over what an intact chunk holds, unless it does not belong there."""
        try:
            if kind.is_picture and self._picture not in (None, kind):
                raise chunks.Unfit(f"is in a file whose picture is in '{self._picture.letter}'")
            parsed = kind.parse(body, self.header, self.held)
            if kind.field in self.held and not kind.repeats:
                raise chunks.Unfit("is one more" if kind.is_picture else "the first one holds")
        except chunks.Unfit as reason:
            if kind.damage_is_fatal:
                raise Damage(f"{name} {reason}") from None
            self._warn(f"{name} is dropped: {reason}")
            return
        if kind.repeats:
            self.held[kind.field].append(parsed.pop(kind.field))
        self.held.update(parsed)
        self._keep(span)
        if kind.is_picture:
            self._picture = kind
            self.steps.append(Step(*chunks.progress(self.held), span.end, self._size))

    def _keep(self, span):
        self._kept.append(span)
        self._size += span.end - span.start

    def check_end(self):
        begun = self.steps[-1].begun if self.steps else 0
        if begun < self.header.iterations:
            raise Damage(
                f"the file ends at byte {len(self.view)} where the chunk of iteration "
                f"{begun + 1} was expected"
            )

    def stop(self, damage):
        """Takes note of why nothing after `damage` is read."""
        if not self.steps:
            lost = "no whole iteration remains"
            if self.header.model_id == NO_MODEL:
                lost = "a lossless picture cannot be shown in part"
            raise BitstreamError(f"{damage}; {lost}: fetch the file again")
        step, iterations = self.steps[-1], self.header.iterations
        if step.whole == iterations:
            self._warn(f"{damage}; nothing is read from there on, but no iteration is missing")
            return
        intact = f"{step.whole} of {iterations} iterations"
        if step.channels:
            intact += f", and {step.channels} of {self.held['channels']} channels of the next"
        self._warn(f"{damage}; intact: {intact}")

    def check_alpha(self):
        if self.header.has_alpha and self.held.get("alpha") is None:
            self._warn("the header declares alpha, but no intact alpha chunk was found")

    def _warn(self, message):
        if self._strict:
            raise BitstreamError(f"{message}; read without strict to use what is intact")
        self.warnings.append(message)

    # -- What came of it --

    def step_of(self, iterations):
        """Returns the step after so many whole iterations."""
        self._check_divisible()
        steps = {step.whole: step for step in self.steps if not step.channels}
        if iterations not in steps:
            if not steps:
                raise BitstreamError("the file holds no whole iteration; truncate it by bytes")
            raise BitstreamError(
                f"expected 1 to {len(steps)} iterations, which is what the file holds, "
                f"received {iterations}"
            )
        return steps[iterations]

    def step_within(self, max_bytes):
        """Returns the last step up to which the file takes so many bytes at most."""
        within = [step for step in self.steps if step.size <= max_bytes]
        if within:
            return within[-1]
        self._check_divisible()
        raise BitstreamError(
            f"expected at least {self.steps[0].size} bytes, which is what the smallest "
            f"part of the file takes, received {max_bytes}"
        )

    def _check_divisible(self):
        if "lossless" in self.held:
            raise BitstreamError(
                "the file holds a lossless picture, of which no part can be shown; encode the "
                "picture again with a loss to make it smaller"
            )

    def chunks_up_to(self, step):
        """Returns the bytes of each chunk that belongs in the file up to a step."""
        return [self.view[span.start : span.end] for span in self._kept if span.end <= step.end]
