"""A part of a picture, as a request names it."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from shared.errors import BadQuestion
from shared.refusals import Kind, Refusal

Box: TypeAlias = tuple[int, int, int, int]


_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the upright picture: its left, top, width and height, in fractions of it if all are at most 1, else in
    pixels."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Read `x,y,w,h`. Raises `BadQuestion`."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
            raise BadQuestion(f"crop is {text!r:.80}; it must be x,y,w,h: four numbers, fractions or pixels.")
        crop = cls(*map(float, parts))
        if min(crop.width, crop.height) <= 0:
            raise BadQuestion(f"crop is {text!r:.80}; its width and height must be more than 0.")
        return crop

    def __str__(self) -> str:
        """As a request gives it: with four decimals, and without an exponent."""
        return ",".join(f"{round(part, 4):g}" for part in (self.x, self.y, self.width, self.height))

    def box(self, width: int, height: int) -> Box | Refusal:
        """Left, top, right and bottom in pixels of a picture of that size, at least a pixel apart."""
        fractions = max(self.x, self.y, self.width, self.height) <= 1
        across, down = (width, height) if fractions else (1, 1)
        left, top = int(self.x * across), int(self.y * down)
        right, bottom = round((self.x + self.width) * across), round((self.y + self.height) * down)
        if right > width or bottom > height or left >= width or top >= height:
            asked = f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"
            return Refusal(
                Kind.BAD_CROP, f"crop is {asked}, which is not within the picture of {width} x {height} pixels."
            )
        return left, top, max(right, left + 1), max(bottom, top + 1)
