"""Scale, reach and cost of a network, from one fold over its layers.

A layer tells what it does to the geometry of what comes in, by a method
`geometry(before: Geometry) -> Geometry`; for the layers of Keras a table here does. A layer without
either raises `TypeError`: a wrong guess would show as seams between tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import dataclasses
from fractions import Fraction
import math
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Of one result of a network, seen from the pixels that went in.

    A result depends on nothing that lies farther outside the aligned block of pixels that it stands
    for than the reach. Tiles need margins of it.

    Attributes:
        scale: pixels for each position of the result, a side. Below 1 where it is finer.
        reach: in pixels.
        products: pairs of a function and a scale: it counts the multiply-adds for one position, as
            soon as the layer is built, of which there is one for so many pixels a side.
    """

    scale: Fraction = Fraction(1)
    reach: Fraction = Fraction(0)
    products: tuple[tuple[Callable[[], int], Fraction], ...] = ()

    @property
    def macs(self) -> float:
        """Multiply-adds for each pixel."""
        return float(sum(count() / scale**2 for count, scale in self.products))

    def positions(self, side: Any) -> Any:
        """How many positions there are for a side of so many pixels, an int or a tensor."""
        return side * self.scale.denominator // self.scale.numerator

    def scaled(self, factor: float) -> Geometry:
        """After positions became blocks or channels, or these positions; factor 2 is coarser."""
        return dataclasses.replace(self, scale=self.scale * Fraction(factor))

    def reaching(self, positions: int) -> Geometry:
        """After something that reads so many positions more on each side."""
        return dataclasses.replace(self, reach=self.reach + self.scale * positions)

    def computing(self, *counts: Callable[[], int]) -> Geometry:
        """After products at each position."""
        more = tuple((count, self.scale) for count in counts)
        return dataclasses.replace(self, products=self.products + more)

    def beside(self, other: Geometry) -> Geometry:
        """Of a result that needs another one, too, which was computed apart from this one."""
        reach = max(self.reach, other.reach)
        return dataclasses.replace(self, reach=reach, products=self.products + other.products)


@dataclasses.dataclass(frozen=True)
class Complexity:
    """What a codec's networks cost. Multiply-adds (MACs) are for each pixel of the padded picture.

    They are those of convolutions and matrices.
    """

    parameters: int
    encoder_macs: float  # per iteration, binarizer included
    decoder_macs: float  # per iteration
    synthesis_macs: float  # per picture that is wanted; per iteration where they accumulate
    skips_synthesis: bool  # whether a decoder may leave out pictures that are not wanted
    repeats: bool = True  # whether each iteration runs the networks again

    def encode_macs(self, iterations: int) -> float:
        """Per pixel. The encoder decodes, too, to see what is left."""
        each = self.encoder_macs + self.decoder_macs + self.synthesis_macs
        return (iterations if self.repeats else 1) * each

    def decode_macs(self, iterations: int) -> float:
        """Per pixel, for the last picture only."""
        runs = iterations if self.repeats else 1
        pictures = 1 if self.skips_synthesis else runs
        return runs * self.decoder_macs + pictures * self.synthesis_macs


def through(layers: Iterable[keras.layers.Layer], before: Geometry = Geometry()) -> Geometry:
    """The `Geometry` after layers in a row.

    Raises:
        TypeError: nothing is known of one of them.
    """
    for layer in layers:
        before = after(layer, before)
    return before


def after(layer: keras.layers.Layer, before: Geometry = Geometry()) -> Geometry:
    """The `Geometry` after one layer; raises as `through`."""
    if hasattr(layer, "geometry"):
        return layer.geometry(before)
    for kind, rule in _OF_KERAS.items():
        if isinstance(layer, kind):
            return rule(layer, before)
    raise TypeError(f"no geometry is known of a {type(layer).__name__}; give it a method")


def overhang(kernel: int, strides: int = 1) -> int:
    """How many positions a kernel with padding reads beyond the `strides` of its output, a side."""
    return max(0, -(-(kernel - strides) // 2))


def kernel_macs(layer: keras.layers.Layer) -> Callable[[], int]:
    """Counts the multiply-adds of a convolution for one position of its output."""
    return lambda: math.prod(layer.kernel.shape)


def _after_convolution(layer, before):
    (strides, _), kernel = layer.strides, max(layer.kernel_size)
    shrinks = layer.padding != "same" and kernel > strides
    if shrinks or set(layer.dilation_rate) != {1}:
        raise TypeError(f"no geometry is known of convolutions such as {layer.name}")
    result = before.reaching(overhang(kernel, strides)).scaled(strides)
    return result.computing(kernel_macs(layer))


def _after_pointwise(layer, before):
    del layer
    return before


_OF_KERAS = {
    keras.layers.Conv2D: _after_convolution,
    keras.Sequential: lambda layer, before: through(layer.layers, before),
    keras.layers.BatchNormalization: _after_pointwise,
    keras.layers.ReLU: _after_pointwise,
    keras.layers.Rescaling: _after_pointwise,
}
