"""How far the hybrid codec's networks reach, and what they cost."""

from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.layers import geometry
from rnn_codec.layers.geometry import Complexity, Geometry

# The bicubic filter: a pixel of twice the size is made from five, two on each side.
_FILTER_REACH = 2


def parts_of(network: HybridNetwork) -> dict[str, Geometry]:
    """The `Geometry` of each network that there is, by its name, in pixels of the picture.

    Args:
        network: `HybridNetwork` whose variables exist.
    """
    compact = Geometry().scaled(2)
    enlarged = compact.reaching(_FILTER_REACH).scaled(0.5)
    parts = {"enlarge": enlarged}
    if network.compact is not None:
        parts["compact"] = geometry.after(network.compact)
    if network.restoration is not None:
        parts["restoration"] = geometry.after(network.restoration, enlarged)
    if network.full_restoration is not None:
        parts["full_restoration"] = geometry.after(network.full_restoration)
    return parts


def reach(network: HybridNetwork) -> int:
    """In pixels of the picture, the farthest that any of the networks reads."""
    return int(max(part.reach for part in parts_of(network).values()))


def measure(config: HybridConfig) -> Complexity:
    """What ComCNN costs as encoder and one RecCNN as synthesis; between them is no network."""
    network = HybridNetwork.create(config)
    parts = parts_of(network)
    restoration = parts.get("restoration", parts.get("full_restoration", Geometry()))
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=parts.get("compact", Geometry()).macs,
        decoder_macs=0.0,
        synthesis_macs=restoration.macs,
        skips_synthesis=True,
    )
