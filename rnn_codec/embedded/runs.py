"""Runs of channels to bytes and back: what a file of the embedded codec is made of.

A run is channels first..last-1 of a plane, in the order in which channels are sent, as one
range-coded stream. `RunEncoder` and `RunDecoder` take the runs of one picture in order, and keep
what both sides know. Between two runs a decoder's `index()` is what a file that ends there holds.

A run is coded in two steps, one for each half of the checkerboard of positions. At planes 0 and 1,
where channels tell of those after them, it is coded in parts, each in two steps: it is parted where
the model's suggested runs end. Of a step, channel by channel and in each by the order of cells
(`lattice`):

    1. for each coefficient that is coded, whether it becomes significant or, if it was, its next
       bit; the bits are sorted by class, lowest first, and keep their order within a class;
    2. the signs of those that became significant, likewise; from plane `SIGNED` on as raw bits;
    3. at plane 0, in rounds 1, 2, ..., 14, whether a magnitude goes beyond the round's number;
       then 8 raw bits for each that goes beyond 14: how far beyond 15.

       at later planes, whether a magnitude is beyond 1, because its coefficient was not coded at
       the plane before; of each that is, its length beyond two binary digits in unary, and then its
       digits after the first, all as raw bits: first the lengths, digit by digit, then the digits,
       the highest first.

A coefficient that is not coded stays zero until a plane at which it is.
"""

import numpy as np

from rnn_codec.embedded import entropy_model
from rnn_codec.embedded.lattice import Lattice
from rnn_codec.entropy import grouped_coder
from rnn_codec.errors import BitstreamError

_ESCAPE_BITS = 8
_ESCAPE_LIMIT = 255  # the largest magnitude of plane 0
_MODELS = grouped_coder.Models(entropy_model.PROBABILITIES)
# Bits that a zero and a one of each class take.
_COSTS = -np.log2(
    np.stack([65536 - entropy_model.PROBABILITIES, entropy_model.PROBABILITIES]) / 65536
)


class _RunCoder:
    """What encoder and decoder share: all that is known of a picture, and the steps of a run.

    Attributes:
        plane, channel: int. The next run begins here.
    """

    def __init__(self, model, shape):
        rows, columns = shape
        self.model = model
        self.shape = (int(rows), int(columns))
        self.plane, self.channel = 0, 0
        self._lattice = Lattice(*self.shape)
        size = (2, model.latents, self._lattice.cells)
        self._magnitude = np.zeros(size, entropy_model.index_dtype(model.planes))
        self._negative = np.zeros(size, bool)
        self._sums = self._levels = None

    def index(self):
        """What is known, each channel at the last plane that was coded of it: `[h, w, K]`.

        Channels are in the network's order, and so are those of `planes_known()`.
        """
        signed = np.where(self._negative, -self._magnitude, self._magnitude)
        index = np.empty((self.model.latents, *self.shape), signed.dtype)
        index[self.model.order] = self._lattice.join(signed)
        return np.moveaxis(index, 0, -1)

    def planes_known(self):
        """The last plane of each channel that was coded, -1 for none: int32 `[K]`."""
        known = np.empty(self.model.latents, np.int32)
        place = np.arange(self.model.latents)
        known[self.model.order] = np.where(place < self.channel, self.plane, self.plane - 1)
        return known

    def _expect(self, plane, first, last):
        if not 0 <= first < last <= self.model.latents or not 0 <= plane < self.model.planes:
            raise ValueError(
                f"expected a run of {self.model.planes} planes of {self.model.latents} channels. "
                f"Received: channels {first} to {last} of plane {plane}"
            )
        if (plane, first) != (self.plane, self.channel):
            raise ValueError(
                f"expected a run that begins at channel {self.channel} of plane {self.plane}. "
                f"Received: channels {first} to {last} of plane {plane}"
            )

    def _begin_plane(self):
        """Computes what the earlier planes tell of this one, unless that is done."""
        if self._sums is None:
            model = self.model.plane_models[self.plane]
            if self.plane:
                self._levels = entropy_model.levels_of(self._magnitude)
            else:
                self._levels = np.zeros(self._magnitude.shape, np.uint8)
            self._sums = model.begin(self._lattice, self._levels, self._magnitude, self._negative)

    def _end_run(self, last):
        self.channel = last
        if last == self.model.latents:
            self.plane, self.channel, self._sums = self.plane + 1, 0, None

    def _code(self, first, last, sums, sink):
        """Codes a run.

        Args:
            first, last: int. Channels.
            sums: `entropy_model.PlaneSums`.
            sink: `_Writer` or `_Reader`, which take or give the events.

        Returns:
            For each part, what `_code_part` returns. Nothing is changed but `sums`.
        """
        ends = [first, last]
        if self.model.plane_models[self.plane].signed:
            inner = self.model.runs[self.plane]
            ends += inner[(inner > first) & (inner < last)].tolist()
        ends = sorted(set(ends))
        return [self._code_part(*part, sums, sink) for part in zip(ends, ends[1:])]

    def _code_part(self, first, last, sums, sink):
        """Codes channels first..last-1.

        Returns:
            Those that are alive, magnitudes and signs of both halves; None if none is.
        """
        model = self.model.plane_models[self.plane]
        alive = np.flatnonzero(model.live[first:last])
        if not len(alive):
            return None
        # A slice, where it can be one, saves copies.
        whole = len(alive) == last - first
        channels = slice(first, last) if whole else alive + first
        levels = self._levels[:, channels]
        magnitudes, negatives = [], []
        for half in range(2):
            before = self._magnitude[half][channels]
            negative = self._negative[half][channels].copy()
            others = entropy_model.levels_of(magnitudes[0]) if half else levels[1]
            own = self._lattice.neighbours(others, levels[half], half)
            magnitude = before.copy()
            step = _Step(self, model, sums, half, channels, own, before)
            step.run(sink, magnitude, negative)
            magnitudes.append(magnitude)
            negatives.append(negative)
            if model.signed and not (half and last == self.model.latents):
                # Something follows that sees what this half added.
                known = entropy_model.levels_of(2 * before).astype(np.int16)
                added = entropy_model.levels_of(magnitude) - known
                signed = entropy_model.with_sign(magnitude - 2 * before, negative)
                sums.add(half, channels, added, signed)
        return channels, magnitudes, negatives

    def _keep(self, coded):
        for part in coded:
            if part is None:
                continue
            channels, magnitudes, negatives = part
            for half in range(2):
                self._magnitude[half][channels] = magnitudes[half]
                self._negative[half][channels] = negatives[half]


class _Step:
    """One half of a run.

    Args:
        coder: `_RunCoder`.
        model: `entropy_model.PlaneModel`.
        sums: `entropy_model.PlaneSums`.
        half: int.
        channels: slice or int array, of L channels.
        own: uint8 `[L, C]`, what the own neighbours amount to.
        before: int `[L, C]`, magnitudes at the plane before.
    """

    def __init__(self, coder, model, sums, half, channels, own, before):
        arithmetic = model.arithmetic
        self.model = model
        outputs = sums.outputs(half, channels)
        table = entropy_model.looked_up(own, model.table[half])
        outputs[0] += table * model.gain[half][channels][:, None]
        self.half, self.channels, self.cells = half, channels, own.shape[1]
        classes = entropy_model.classes_of(outputs[0], arithmetic)
        coded = classes >= max(0, model.threshold + entropy_model.CLASS_LIMIT)
        if model.plane:
            coded |= before != 0
        coded &= coder._lattice.valid[half]
        self.where = np.flatnonzero(coded)
        self.classes = classes.reshape(-1)[self.where]
        self.before = before.reshape(-1)[self.where]
        self.outputs = [z.reshape(-1)[self.where] for z in outputs[1:]]

    def run(self, sink, magnitude, negative):
        """Codes the events, and writes what they say into magnitude and negative `[L, C]`."""
        model, before, classes = self.model, self.before, self.classes
        magnitude, negative = magnitude.reshape(-1), negative.reshape(-1)
        signs = None
        if self.outputs:
            signs = entropy_model.classes_of(self.outputs[0], model.arithmetic)
        was = np.flatnonzero(before)
        if len(was):
            leaning = None
            if signs is not None:
                leaning = signs[was].astype(np.int32) - entropy_model.CLASS_LIMIT
                leaning = np.where(negative[self.where[was]], -leaning, leaning)
            classes[was] = entropy_model.refined_classes(model, before[was], classes[was], leaning)
        bits = sink.bits(self, self.where, classes, 2 * before)
        now = 2 * before + bits
        magnitude[self.where] = now
        begun = np.flatnonzero((now == 1) & (before == 0))
        places = self.where[begun]
        sign_classes = None if signs is None else signs[begun]
        negative[places] = sink.signs(self, places, sign_classes)
        if not len(begun):
            return
        if model.plane == 0:
            magnitude[places] = self._magnitudes(sink, places, self.outputs[1][begun])
        else:
            late = sink.late(self, places, entropy_model.late_bins(classes[begun]))
            places = places[late != 0]
            magnitude[places] = self._late_magnitudes(sink, places)

    def _magnitudes(self, sink, places, outputs):
        """Magnitudes of plane 0, of those that are at least 1."""
        more = entropy_model.classes_of(outputs, self.model.arithmetic).astype(np.int32)
        table = self.model.more[self.half][:, self.channels]
        channels = places // self.cells
        found = np.ones(len(places), np.int32)
        active = np.arange(len(places))
        for told in range(1, entropy_model.UNARY + 1):
            classes = more[active] + table[told - 1, channels[active]]
            classes = np.clip(classes, 0, 2 * entropy_model.CLASS_LIMIT).astype(np.uint8)
            on = sink.bits(self, places[active], classes, told)
            active = active[on != 0]
            found[active] += 1
            if not len(active):
                return found
        found[active] += sink.escapes(self, places[active])
        return found

    def _late_magnitudes(self, sink, places):
        """Magnitudes of those that are at least 2."""
        digits = np.ones(len(places), np.int32)  # after the first
        active = np.arange(len(places))
        # So many that the magnitude is no larger than plane 0 would have allowed.
        for count in range(1, self.model.plane + _ESCAPE_BITS - 1):
            if not len(active):
                break
            active = active[sink.is_beyond(self, places[active], 2 ** (count + 1) - 1)]
            digits[active] += 1
        found = np.ones(len(places), np.int32)
        for position in range(digits.max(initial=0) - 1, -1, -1):
            active = np.flatnonzero(digits > position)
            found[active] *= 2
            found[active] += sink.digit(self, places[active], position)
        return found


class _Writer:
    """Takes events from a picture's true indices, and packs or counts them.

    Args:
        magnitude, negative: of the plane, `[2, K, C]`; the first a function of half and channels.
        coder: `grouped_coder.Encoder`, or None to count bits only.
        costs: float `[K]`, bits by channel, to be added to, or None.
        cells: int. C.
    """

    def __init__(self, magnitude, negative, coder, costs, cells):
        self._magnitude = magnitude
        self._negative = negative
        self._coder = coder
        self._costs = costs
        self._cells = cells
        self._step = self._values = None
        self.events = self.coded = 0
        self.late_counts = np.zeros((entropy_model.LATE_BINS, 2), np.int64)

    def _true(self, step):
        """Magnitudes and signs of the step's cells, flat."""
        if self._step is not step:
            self._step = step
            negative = self._negative[step.half][step.channels]
            magnitude = self._magnitude(step.half, step.channels)
            self._values = magnitude.reshape(-1), negative.reshape(-1)
        return self._values

    def bits(self, step, places, classes, above):
        if places is step.where:
            self.coded += len(places)
        bits = (self._true(step)[0][places] > above).astype(np.uint8)
        self._grouped(step, places, classes, bits)
        return bits

    def signs(self, step, places, classes):
        negative = self._true(step)[1][places]
        if classes is None:
            self._raw(step, places, negative[:, None])
        else:
            self._grouped(step, places, classes, (~negative).view(np.uint8))
        return negative

    def late(self, step, places, bins):
        bits = self.bits(step, places, step.model.late[bins], 1)
        np.add.at(self.late_counts, (bins, bits), 1)
        return bits

    def is_beyond(self, step, places, limit):
        bits = self._true(step)[0][places] > limit
        self._raw(step, places, bits[:, None])
        return bits

    def digit(self, step, places, position):
        bits = (self._true(step)[0][places] >> position) & 1
        self._raw(step, places, bits[:, None])
        return bits

    def escapes(self, step, places):
        rest = self._true(step)[0][places] - (entropy_model.UNARY + 1)
        self._raw(step, places, np.unpackbits(rest.astype(np.uint8)[:, None], axis=1))
        return rest

    def _grouped(self, step, places, classes, bits):
        self.events += bits.size
        if self._coder is not None:
            order = np.argsort(classes, kind="stable")
            self._coder.grouped(bits[order], np.bincount(classes, minlength=1))
        if self._costs is not None:
            self._count(step, places, _COSTS[bits, classes])

    def _raw(self, step, places, bits):
        self.events += bits.size
        if self._coder is not None:
            self._coder.raw(bits.reshape(-1))
        if self._costs is not None:
            self._count(step, places, np.full(len(places), bits.shape[1], float))

    def _count(self, step, places, costs):
        channels = np.arange(len(self._costs))[step.channels]
        found = np.bincount(places // self._cells, costs, minlength=len(channels))
        self._costs[channels] += found


class _Reader:
    """Takes events from a stream.

    Args:
        coder: `grouped_coder.Decoder`.
    """

    def __init__(self, coder):
        self._coder = coder

    def bits(self, step, places, classes, above):
        order = np.argsort(classes, kind="stable")
        bits = np.empty(len(classes), np.uint8)
        bits[order] = self._coder.grouped(np.bincount(classes, minlength=1))
        return bits

    def signs(self, step, places, classes):
        if classes is None:
            return self._coder.raw(len(places)).view(bool)
        return self.bits(step, places, classes, 0) == 0

    def late(self, step, places, bins):
        return self.bits(step, places, step.model.late[bins], 1)

    def is_beyond(self, step, places, limit):
        return self._coder.raw(len(places)).view(bool)

    def digit(self, step, places, position):
        return self._coder.raw(len(places))

    def escapes(self, step, places):
        bits = self._coder.raw(_ESCAPE_BITS * len(places))
        rest = np.packbits(bits).astype(np.int32)
        if rest.max(initial=0) > _ESCAPE_LIMIT - entropy_model.UNARY - 1:
            raise BitstreamError(
                f"a latent of {rest.max() + entropy_model.UNARY + 1} steps, where {_ESCAPE_LIMIT} "
                "is the most that the format allows; the file was not written by this codec"
            )
        return rest


class RunEncoder(_RunCoder):
    """Packs the runs of one picture.

    Its `index()` is what a decoder will have: coefficients that are not coded are zero in it.

    Args:
        model: `entropy_model.EntropyModel`.
        index: int `[h, w, K]`, the picture's indices of the last plane, channels in the network's
            order. Magnitudes beyond `model.index_limit` are cut to it.

    Attributes:
        events, coded: int. Bits that went into the range coder so far, and coefficients of all
            planes that were not left out.
        late_counts: int64 `[N, LATE_BINS, 2]`. How many that became significant were found late,
            `[..., 1]`, or were not, so far.
    """

    def __init__(self, model, index):
        super().__init__(model, index.shape[:2])
        index = np.moveaxis(np.asarray(index), -1, 0)[model.order]
        limit = model.index_limit
        magnitude = np.minimum(np.abs(index.astype(np.int32)), limit)
        self._target = self._lattice.split(magnitude.astype(self._magnitude.dtype))
        self._target_negative = self._lattice.split(index < 0)
        self.events = self.coded = 0
        self.late_counts = np.zeros((model.planes, entropy_model.LATE_BINS, 2), np.int64)

    def encode(self, plane, first, last):
        """The bytes of a run: channels first..last-1 of a plane, in the order of sending.

        Raises:
            ValueError: it is not the run after the one before.
        """
        self._expect(plane, first, last)
        self._begin_plane()
        coder = grouped_coder.Encoder(_MODELS)
        writer = self._writer(coder, None)
        self._keep(self._code(first, last, self._sums, writer))
        self.events += writer.events
        self.coded += writer.coded
        self.late_counts[plane] += writer.late_counts
        self._end_run(last)
        return coder.finish()

    def channel_bits(self):
        """Bits that each of the rest of the plane's channels would take, sent as one run.

        Returns:
            float64 `[K]`, in the order of sending; 0 for channels that have been sent. A run takes
            the sum of its channels' bits and about 4 bytes; at planes 0 and 1, where parts of a run
            help those after them, it may be some bits more or less.
        """
        self._begin_plane()
        costs = np.zeros(self.model.latents)
        self._code(self.channel, self.model.latents, self._sums.copy(), self._writer(None, costs))
        return costs

    def _writer(self, coder, costs):
        shift = self.model.planes - 1 - self.plane

        def magnitude(half, channels):
            return self._target[half][channels] >> shift

        return _Writer(magnitude, self._target_negative, coder, costs, self._lattice.cells)


class RunDecoder(_RunCoder):
    """Reads the runs of one picture.

    Args:
        model: `entropy_model.EntropyModel`.
        shape: h and w, at least 1.
    """

    def decode(self, plane, first, last, payload):
        """Takes in the bytes of a run; see `index` and `planes_known`.

        Raises:
            BitstreamError: no encoder wrote them. Then nothing of the run is kept.
            ValueError: it is not the run after the one before.
        """
        self._expect(plane, first, last)
        self._begin_plane()
        coder = grouped_coder.Decoder(_MODELS, payload)
        sums = self._sums.copy() if self.model.plane_models[plane].signed else self._sums
        coded = self._code(first, last, sums, _Reader(coder))
        coder.finish()
        self._sums = sums
        self._keep(coded)
        self._end_run(last)
