"""A page of pictures: questions on the left, answers beside them, in one HTML file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shared.images.decode import decode
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
        """Its address, or that of a small JPEG in a data: URI; "" where the bytes are no picture."""
        if isinstance(self.picture, str):
            return self.picture
        picture = decode(self.picture, edge=_THUMBNAIL)
        if isinstance(picture, Refusal):
            return ""
        image = Image.fromarray(picture)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True, slots=True)
class Row:
    """A question and its answers, best first."""

    question: Tile
    answers: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a heading, several beside each other where they are short."""

    title: str
    rows: Sequence[Row]

    @property
    def wide(self) -> int:
        """How many pixels a row takes."""
        return 160 * max((1 + len(row.answers) for row in self.rows), default=1)


def page(title: str, intro: str, sections: Sequence[Section]) -> str:
    """The page as HTML text."""
    from jinja2 import Environment, FileSystemLoader  # most runs end without a page

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template("gallery.html").render(title=title, intro=intro, sections=sections)
