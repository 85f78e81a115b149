"""Drawn pictures to train on: pages of text, charts, lines, screens, flat areas and gradients.

Users compress such pictures too, and photographs hold none. Fonts are those of the system, else
Pillow's own.
"""

import glob

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LEAST_SIDE = 448
_WORDS = (
    "the of and to in is it for on with as at by this from can more time picture file value page "
    "list name total order number result figure left right open save"
).split()


def drawings(count: int, side: int = _LEAST_SIDE, seed: int = 11) -> list[np.ndarray]:
    """Drawings of each kind in turn: uint8 `[H, W, 3]`, at least `side` pixels a side."""
    artist = _Artist(max(side, _LEAST_SIDE), seed)
    kinds = (artist.text, artist.chart, artist.lines, artist.screen, artist.flat)
    return [np.asarray(kinds[i % len(kinds)]()) for i in range(count)]


class _Artist:
    """Draws pictures of `side` pixels a side, other ones each time."""

    def __init__(self, side, seed):
        self.side = side
        self.rng = np.random.default_rng(seed)
        self.fonts = sorted(glob.glob("/usr/share/fonts/**/*.ttf", recursive=True))

    def text(self):
        """A page of lines in several sizes, dark on light or light on dark."""
        dark = self._chance(0.3)
        picture, draw = self._paper("dark" if dark else "light")
        y = 4
        while y < self.side - 8:
            size = self._number(9, 15) if self._chance(0.7) else self._number(15, 44)
            font = self._font(size)
            ink = self._color(("light" if dark else "dark") if self._chance(0.7) else None)
            for _ in range(self._number(1, 7)):
                words = self._words(self._number(3, 12))
                draw.text((self._number(2, 30), y), words, ink, font=font)
                y += int(size * 1.35)
            y += self._number(0, 20)
        return picture

    def chart(self):
        """Bars with numbers, and curves."""
        picture, draw = self._paper("light")
        bars, base = self._number(4, 14), self.side - 48
        for bar in range(bars):
            x = 40 + bar * (380 // bars)
            top = base - self._number(10, 340)
            draw.rectangle((x, top, x + 300 // bars, base), self._color())
            number = str(self._number(0, 999))
            draw.text((x, base + 4), number, self._color("dark"), font=self._font(10))
        axes = (36, 20, 36, base, self.side - 18, base)
        draw.line(axes, self._color("dark"), self._number(1, 3))
        for _ in range(self._number(0, 4)):
            heights = np.clip(200 + np.cumsum(self.rng.normal(0, 25, 20)), 20, base)
            curve = [(40 + i * 20, int(height)) for i, height in enumerate(heights)]
            draw.line(curve, self._color(), self._number(1, 4))
        return picture

    def lines(self):
        """Thin lines, ellipses and boxes; sometimes a checkerboard in a corner."""
        picture, draw = self._paper("light" if self._chance(0.7) else "dark")
        for _ in range(self._number(10, 60)):
            a, b, c, d = (int(v) for v in self.rng.integers(-20, self.side + 20, 4))
            box = (min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1)
            kind = self.rng.random()
            if kind < 0.5:
                draw.line((a, b, c, d), self._color(), self._number(1, 4))
            elif kind < 0.75:
                draw.ellipse(box, outline=self._color(), width=self._number(1, 4))
            else:
                fill = self._color() if self._chance(0.4) else None
                draw.rectangle(box, fill=fill, outline=self._color())
        if not self._chance(0.2):
            return picture
        square, (row, column) = int(self.rng.choice([1, 2, 4, 8, 16])), np.mgrid[:192, :192]
        is_first = (row // square + column // square) % 2 == 0
        pixels = np.asarray(picture).copy()
        pixels[:192, :192] = np.where(is_first[..., None], self._color(), self._color())
        return Image.fromarray(pixels)

    def screen(self):
        """A window with a bar and buttons."""
        picture, draw = self._paper("light")
        draw.rectangle((0, 0, self.side, self._number(20, 60)), self._color())
        for _ in range(self._number(4, 12)):
            x, y = self._number(0, self.side - 98), self._number(30, self.side - 48)
            box = (x, y, x + self._number(30, 200), y + self._number(14, 90))
            draw.rounded_rectangle(box, self._number(0, 12), self._color(), self._color())
            ink = self._color("dark" if self._chance(0.5) else "light")
            label = self._words(self._number(1, 5))
            draw.text((x + 5, y + 3), label, ink, font=self._font(self._number(9, 16)))
        return picture

    def flat(self):
        """One colour or grey, two of them, or a gradient."""
        pixels = np.zeros((self.side, self.side, 3)) + self._color()
        if self._chance(0.3):
            pixels[:] = self._number(0, 256)
        if self._chance(0.5):
            row, column = np.mgrid[: self.side, : self.side] / (self.side - 1) - 0.5
            angle = self.rng.random() * 2 * np.pi
            share = np.clip(np.cos(angle) * column + np.sin(angle) * row + 0.5, 0, 1)[..., None]
            pixels = pixels * (1 - share) + np.array(self._color()) * share
        elif self._chance(0.6):
            pixels[:, self._number(0, self.side) :] = self._color()
        return Image.fromarray(np.rint(pixels).astype(np.uint8))

    def _paper(self, shade):
        picture = Image.new("RGB", (self.side, self.side), self._color(shade))
        return picture, ImageDraw.Draw(picture)

    def _color(self, shade=None):
        """Any colour, or one that is "light" or "dark"."""
        if shade == "light":
            values = 255 - self.rng.integers(0, 40, 3) * self.rng.integers(0, 2)
        elif shade == "dark":
            values = self.rng.integers(0, 90, 3) * self.rng.integers(0, 2)
        else:
            values = self.rng.integers(0, 256, 3)
        return tuple(int(value) for value in values)

    def _font(self, size):
        if self.fonts and self._chance(0.8):
            return ImageFont.truetype(str(self.rng.choice(self.fonts)), size)
        return ImageFont.load_default(size)

    def _words(self, count):
        words = self.rng.choice(_WORDS, count)
        return " ".join(
            str(word) if self._chance(0.85) else str(self._number(0, 99999)) for word in words
        )

    def _chance(self, share):
        return self.rng.random() < share

    def _number(self, low, high):
        return int(self.rng.integers(low, high))
