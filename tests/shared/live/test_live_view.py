"""A snapshot with its changes answers as a snapshot that was made with them, on many random changes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shared.live.journal import Journal
from shared.live.live_view import live_view
from shared.live.reading import LiveImage, Pins
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.search.search import similar_to_product, similar_to_vectors
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import SnapshotView
from shared.snapshot.writer import ProductSpace
from shared.vectors.projection import Block, Projection
from shared.vectors.unit import normalise
from tests.support.snapshots import HOCKEY, snapshot_of, unit

NETWORK = "colour_grid"


def vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coarse values, so that there are many ties."""
    return unit(*(rng.integers(-1, 2, (count, 4)) + np.array([0, 0, 0, 0.5])))


@dataclass
class Shop:
    """A snapshot with a journal, and what it should be by now."""

    data: Path
    base: Snapshot
    products: dict[str, np.ndarray]
    unavailable: set[str] = field(default_factory=set)
    pins: dict[str, Pins] = field(default_factory=dict)
    view: SnapshotView | None = None
    apart: bool = False

    @classmethod
    def of(cls, data: Path, rng: np.random.Generator, count: int, *, apart: bool = False) -> "Shop":
        products = {f"p{n}": vectors(rng, int(rng.integers(1, 4))) for n in range(count)}
        return cls(data, snapshot(data / "base", products, apart=apart), products, apart=apart)

    @property
    def journal(self) -> Journal:
        return Journal(self.data, HOCKEY)

    def change(self, rng: np.random.Generator) -> None:
        """One random change, in the journal and in what should be."""
        name = f"p{rng.integers(0, 2 * len(self.products) + 2)}"
        what = rng.integers(0, 6)
        if what < 2:
            raw = vectors(rng, int(rng.integers(1, 4)))
            images = [LiveImage(f"i{n}", "", b"%d" % n) for n in range(len(raw))]
            self.journal.put(name, {"name": f"{name}!"}, images, self.base.spec.fingerprint, raw)
            self.products.pop(name, None)
            self.products[name] = raw  # last
        elif what == 2 and name in self.products:
            self.journal.delete(name, indexed=self.base.products.find(name) is not None)
            del self.products[name]
        elif what == 3:
            sold_out, back = ({f"p{n}" for n in rng.integers(0, 99, rng.integers(0, 9))} for _ in range(2))
            self.journal.set_available(sold_out, back - sold_out)
            self.unavailable = (self.unavailable - (back - sold_out)) | sold_out
        elif what == 4:
            self.unavailable = {f"p{n}" for n in rng.integers(0, 99, rng.integers(0, 30))}
            self.journal.set_available(self.unavailable)
        elif what == 5:
            names = [f"p{n}" for n in rng.permutation(99)[: rng.integers(0, 8)]]
            pins = Pins(tuple(names[::2]), tuple(names[1::2]))
            self.pins[name] = pins
            self.journal.pin(name, pins)

    @property
    def live(self) -> SnapshotView:
        with self.journal.reading() as reading:
            self.view = live_view(self.base, reading, self.view)
        return self.view

    def wanted(self, rebuilt: Sequence[Hit], live: Sequence[Hit], asked: str = "") -> list[str]:
        """The right answer, given all that a snapshot answers that was made from scratch.

        Scores may differ in the last digit, and so in how they tie: then the live one's order.
        """
        scores, own = scores_of(rebuilt), scores_of(live)
        assert own == {name: pytest.approx(scores[name], abs=2e-6) for name in own}
        place = {name: at for at, name in enumerate(self.products)}
        names = sorted(scores, key=lambda name: (-own.get(name, scores[name]), place[name]))
        pins = self.pins.get(asked, Pins())
        first = [name for name in pins.pinned if name in names and name not in self.unavailable]
        rest = [name for name in names if name not in {*self.unavailable, *pins.pinned, *pins.blocked}]
        return first + rest


def snapshot(data: Path, products: dict[str, np.ndarray], *, apart: bool = False) -> Snapshot:
    """A snapshot of these raw vectors. `apart`: photos are searched in a space of their own."""
    names = [name for name, own in products.items() for _ in own]
    raw = np.concatenate(list(products.values())).astype(np.float32)
    if not apart:
        return snapshot_of(data, names, raw)
    turned = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0].astype(np.float32)
    projection = Projection((Block(0, np.zeros((2, 4), np.float32), turned * np.float32([1, 2, 3, 4])),))
    space = ProductSpace(None, normalise(raw), raw.shape[1])
    return snapshot_of(data, names, projection.images(raw), projection=projection, space=space)


def scores_of(answers: Sequence[Hit]) -> dict[str, float]:
    return {answer.image.product_id: answer.score for answer in answers}


def ids(answers: Sequence[Hit]) -> list[str]:
    return [answer.image.product_id for answer in answers]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 25))])
def test_random_changes_answer_as_a_snapshot_made_with_them(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = Shop.of(tmp_path, rng, int(rng.choice([2, 5, 40, 180])), apart=seed % 2 == 1)
    for step in range(4):
        for _ in range(rng.integers(1, 12)):
            shop.change(rng)
        if not shop.products:
            return
        live, rebuilt = shop.live, snapshot(tmp_path / f"rebuilt{step}", shop.products, apart=shop.apart)
        for name in rng.permutation(list(shop.products))[:6].tolist():
            wanted = shop.wanted(*(similar_to_product(one, name, SearchParams(1000)) for one in (rebuilt, live)), name)
            for k in (1, 10, 90, 100, 110, 1000):
                found = similar_to_product(live, name, SearchParams(k))
                assert ids(found) == wanted[:k]
                assert [answer.rank for answer in found] == list(range(1, len(found) + 1))
            for answer in found:
                assert json.loads(answer.line)["attributes"] == {"name": answer.image.product_id + "!"}
        for query in vectors(rng, 3):
            wanted = shop.wanted(*(similar_to_vectors(one, query[None], SearchParams(1000)) for one in (rebuilt, live)))
            for k in (1, 10, 150, 1000):
                assert ids(similar_to_vectors(live, query[None], SearchParams(k))) == wanted[:k]
