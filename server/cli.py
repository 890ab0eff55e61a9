"""The commands over a data folder: `similar` and `search` answer in the terminal, `journal` mends live changes. No
server is needed."""

import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.api.responses import answer_body
from server.config import OPTIONS
from shared.errors import ConfigError, JournalDamaged
from shared.images.gallery import Row, Section, Tile, page
from shared.index.product_table import ProductImage
from shared.live.journal import Journal
from shared.live.live_view import current_view
from shared.live.repair import Findings
from shared.live.repair import repair as repair_journal
from shared.partition import Partition
from shared.search.hits import Hit
from shared.search.params import MOST, SearchParams
from shared.search.search import similar_to_photo, similar_to_product
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind
from shared.snapshot.view import SnapshotView

_STYLES = {"same": "green", "variant": "cyan", "similar": "yellow", "none": "dim"}
_OPTIONS = [
    click.Option(["--k"], default=10, show_default=True, type=click.IntRange(1, MOST), help="How many products."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, as the server answers."),
    click.Option(["--open", "as_page"], is_flag=True, help="Show the answers as a page of pictures, in the browser."),
    *(option for option in OPTIONS if option.name in ("data", "signing_key")),
]


@click.command(params=[*_OPTIONS])
@click.argument("partition")
@click.argument("product_id")
def similar(partition: str, product_id: str, k: int, **options: Any) -> None:
    """Show the products that look most like PRODUCT_ID: similar 371/0341 8300037"""
    snapshot = _snapshot(partition, options)
    answers = similar_to_product(snapshot, product_id, SearchParams(k))
    asked = snapshot.products.image(snapshot.products.images(snapshot.number(product_id)).start)
    _show(snapshot, QueryKind.PRODUCT, answers, Tile(asked.image_url, _name(asked), product_id), **options)


@click.command(params=[*_OPTIONS])
@click.argument("partition")
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def search(partition: str, photo: Path, k: int, **options: Any) -> None:
    """Show the products that look most like the picture in the file PHOTO: search 371/0341 photo.jpg"""
    snapshot = _snapshot(partition, options)
    data = photo.read_bytes()
    answers = similar_to_photo(snapshot, snapshot.load_embedder(), data, SearchParams(k))
    _show(snapshot, QueryKind.PHOTO, answers, Tile(data, "a photo", photo.name), **options)


@click.group()
def journal() -> None:
    """Check and repair the journal of live changes of a partition. Servers may go on meanwhile."""


_DATA = [option for option in OPTIONS if option.name == "data"]


@journal.command(params=[*_DATA])
@click.argument("partition")
def check(partition: str, data: Path) -> None:
    """Look whether each row is whole: journal check 371/0341"""
    found = repair_journal(Journal(data, _partition(partition)), dry=True)
    _tell(partition, found)
    if found.damage:
        raise JournalDamaged(f"The journal of {partition} is damaged. Repair it: journal repair {partition}")


@journal.command(params=[*_DATA])
@click.option("--from", "backup", type=click.Path(exists=True, path_type=Path), help="A backup to put in its place.")
@click.argument("partition")
def repair(partition: str, data: Path, backup: Path | None) -> None:
    """Keep each row that is whole, and a copy of the file as it was: journal repair 371/0341"""
    found = repair_journal(Journal(data, _partition(partition)), backup)
    _tell(partition, found)
    if found.copy:
        click.echo(f"The file as it was: {found.copy}")


def _tell(partition: str, found: Findings) -> None:
    click.echo(
        f"{partition}: {found.changes:,} changed products, pins of {found.pins:,}, and {found.unavailable:,} that are "
        "unavailable are whole."
    )
    for damage in found.damage:
        click.echo(f"Damaged or lost: {damage}")


def _partition(name: str) -> Partition:
    department, slash, domain = name.partition("/")
    if not slash:
        raise ConfigError(f"The index {name!r} is not valid: give department/domain, for example 371/0341.")
    return Partition(department, domain)


def _snapshot(partition: str, options: dict[str, Any]) -> SnapshotView:
    data = options.pop("data")
    return current_view(data, Snapshot.current(data, _partition(partition), options.pop("signing_key")))


def _show(
    snapshot: SnapshotView, kind: QueryKind, answers: list[Hit], asked: Tile, *, as_json: bool, as_page: bool
) -> None:
    if as_json:
        print(answer_body(snapshot, answers, kind).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(_table(asked, answers))
    if as_page:
        row = Row(asked, [Tile(n.image.image_url, _name(n.image), _note(n)) for n in answers])
        intro = f"From {snapshot.id} of {snapshot.manifest.partition}."
        # The browser reads it after this has ended, so it stays.
        file = Path(tempfile.mkdtemp(prefix="similar-")) / "index.html"
        file.write_text(page("Which products look most alike?", intro, [Section("", [row])]), "utf-8")
        print(f"A page of them: {file}", file=sys.stderr)
        webbrowser.open(file.as_uri())


def _table(asked: Tile, answers: Sequence[Hit]) -> Table:
    table = Table(title=_plain(f"Most like {asked.caption} ({asked.note})"), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("product", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("verdict")
    table.add_column("image", overflow="fold")
    for answer in answers:
        image = answer.image
        verdict = Text(answer.verdict or "", style=_STYLES.get(answer.verdict or "", ""))
        name = _name(image)
        product = _plain(f"{image.product_id}  {name}" if name != image.product_id else name)
        table.add_row(str(answer.rank), product, f"{answer.score:.3f}", verdict, _plain(image.image_url))
    return table


def _name(image: ProductImage) -> str:
    return image.attributes.get("name") or image.product_id


def _note(answer: Hit) -> str:
    return f"{answer.image.product_id} · {answer.score:.2f} {answer.verdict or ''}".strip()


def _plain(text: str) -> Text:
    """A catalog's text without markup, and without anything that a terminal obeys."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
