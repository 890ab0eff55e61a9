"""A page of pictures: queries on the left, answers beside them, in one HTML file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.images.encode import thumbnail
from shared.refusals import Refusal

_THUMBNAIL = 160


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture, as the bytes of a file or as its address. `mark` is "right", "wrong" or ""."""

    picture: bytes | str
    caption: str
    note: str = ""
    mark: str = ""

    @property
    def uri(self) -> str:
        """Its address, or that of a small JPEG in a data: URI; "" if the bytes are no picture."""
        if isinstance(self.picture, str):
            return self.picture
        small = thumbnail(self.picture, _THUMBNAIL)
        return "" if isinstance(small, Refusal) else "data:image/jpeg;base64," + base64.b64encode(small).decode()


@dataclass(frozen=True, slots=True)
class Row:
    """A query and its answers, best first."""

    question: Tile
    answers: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a heading, several beside each other where they are short."""

    title: str
    rows: Sequence[Row]

    @property
    def wide(self) -> int:
        """The pixels that a row takes."""
        return 160 * max((1 + len(row.answers) for row in self.rows), default=1)


def page(title: str, intro: str, sections: Sequence[Section]) -> str:
    """Render the page as HTML."""
    from jinja2 import Environment, FileSystemLoader  # most runs end without a page

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template("gallery.html").render(title=title, intro=intro, sections=sections)
