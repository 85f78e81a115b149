"""Bit planes to chunk payloads and back: where entropy coders meet the container.

A plane is uint8 zeros and ones, `[height/16, width/16, bits]`. Raw, it is packed eight to a byte,
the first bit in the highest place, channels running fastest. Else a model predicts its bits from
the planes before and from what is coded already, and a range coder packs them. Knows nothing of
pixels or of the codec's network.
"""

import numpy as np

from rnn_codec.container import bitstream
from rnn_codec.entropy import range_coder
from rnn_codec.entropy.adaptive_model import AdaptiveModel
from rnn_codec.errors import BitstreamError

ENTROPY_CODERS = {
    "neural": bitstream.NEURAL,
    "adaptive": bitstream.ADAPTIVE,
    "raw": bitstream.RAW,
}


class PackedPlane:
    """A plane in an eighth of its memory. Indexed by rows and columns it gives what is there."""

    def __init__(self, bits):
        self._bytes = np.packbits(bits, axis=-1)
        self._count = bits.shape[-1]

    def __getitem__(self, part):
        return np.unpackbits(self._bytes[part], axis=-1, count=self._count)


class PlaneCoder:
    """Packs, or unpacks, the planes of one picture in order.

    Args:
        shape: of each plane.
        context_model: `context_model.ContextModel`, or None where the preset has none.
    """

    def __init__(self, shape, context_model=None):
        self.shape = tuple(shape)
        self.planes = []  # so far, each a `PackedPlane`
        self._models = {bitstream.NEURAL: context_model, bitstream.ADAPTIVE: AdaptiveModel()}

    def pack(self, bits, entropy):
        """The `bitstream.Plane` of the next plane.

        Args:
            bits: array of `shape`, zeros and ones or booleans.
            entropy: str, a name in `ENTROPY_CODERS`. A plane that would not shrink is stored raw.
        """
        bits = np.asarray(bits)
        bits = bits.view(np.uint8) if bits.dtype == bool else bits.astype(np.uint8)
        coder, payload = ENTROPY_CODERS[entropy], np.packbits(bits).tobytes()
        if coder != bitstream.RAW:
            coded = self._encode(bits, self._models[coder])
            coder, payload = min((bitstream.RAW, payload), (coder, coded), key=_length)
        self.planes.append(PackedPlane(bits))
        return bitstream.Plane(coder, payload)

    def unpack(self, plane):
        """Bits of the next `bitstream.Plane`: uint8 of `shape`.

        Raises:
            BitstreamError: a payload is of another size, or of a coder that is not there.
        """
        number = len(self.planes) + 1
        if plane.coder == bitstream.RAW:
            bits = self._unpack_raw(plane.payload, number)
        elif self._models.get(plane.coder) is not None:
            try:
                bits = self._decode(plane.payload, self._models[plane.coder])
            except BitstreamError as error:
                raise BitstreamError(f"iteration {number}: {error}") from error
        else:
            raise BitstreamError(
                f"iteration {number} was packed by coder {plane.coder}, which this preset in this "
                "version of rnn_codec does not have; decode it with the ones that wrote it"
            )
        self.planes.append(PackedPlane(bits))
        return bits

    def _unpack_raw(self, payload, number):
        count = int(np.prod(self.shape, dtype=np.int64))
        if len(payload) != -(-count // 8):
            raise BitstreamError(
                f"iteration {number} holds {len(payload)} bytes where a picture of this size "
                f"takes {-(-count // 8)}; the file was not written by this codec"
            )
        return np.unpackbits(np.frombuffer(payload, np.uint8), count=count).reshape(self.shape)

    def _encode(self, bits, model):
        coder = range_coder.Encoder()

        def code(where, probabilities):
            coder.encode(bits[where], probabilities)
            return bits[where]

        run(model, self.planes, self.shape, code)
        return coder.finish()

    def _decode(self, payload, model):
        coder = range_coder.Decoder(payload)
        bits = np.zeros(self.shape, np.uint8)

        def code(where, probabilities):
            bits[where] = coder.decode(probabilities)
            return bits[where]

        run(model, self.planes, self.shape, code)
        return bits


def run(model, earlier, shape, code):
    """Runs a model over one plane, step by step.

    Args:
        model: has `predict`, as `context_model.ContextModel` has it.
        earlier: list of the planes before.
        shape: of each plane.
        code: function of an index into the plane and the probabilities there, in 65536ths; returns
            the bits there.
    """
    steps, coded = model.predict(earlier, shape), None
    while True:
        try:
            where, probabilities = steps.send(coded)
        except StopIteration:
            return
        coded = code(where, probabilities)


def _length(packed):
    return len(packed[1])
