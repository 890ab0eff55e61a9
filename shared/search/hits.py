"""Hits: one product of an answer, by its image that matched best."""

from typing import NamedTuple

from shared.index.product_table import ProductImage, image_of
from shared.snapshot.verdicts import Verdict


class Hit(NamedTuple):
    """A product that was found, by the image of it that matched best. `score` is the cosine, -1 to 1; `verdict` its
    meaning on this catalog, None if that was not fitted; `row` the image's row.

    `line` is the image as the table holds it, JSON, so that answering over HTTP need not take it apart. A tuple, for an
    answer has ten and more of them, and a frozen dataclass takes three times as long to make.
    """

    rank: int
    score: float
    line: bytes
    verdict: Verdict | None = None
    row: int = -1

    @property
    def image(self) -> ProductImage:
        """The image that matched best."""
        return image_of(self.line)
