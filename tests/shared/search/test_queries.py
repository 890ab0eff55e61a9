"""Queries: products, photos, parts of photos, several of them; all partitions; and why an answer is one."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.embedding.registry import load
from shared.errors import BadPicture, BadQuestion, UnknownProduct
from shared.images.crop import Crop
from shared.images.decode import decode
from shared.images.views import VIEWS, views
from shared.index.filters import parse
from shared.partition import Partition
from shared.refusals import Kind, Refusal
from shared.search.all_partitions import queries_everywhere, similar_everywhere
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.search.photo_query import photo_query
from shared.search.queries import GAMMA, Query, explain, mixed_query, product_query
from shared.search.search import similar_to_photo, similar_to_product, similar_to_query
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import Verdict
from shared.vectors.unit import normalise
from tests.support.golden import FOLDERS, KEY
from tests.support.pictures import drawn, encoded, vectors
from tests.support.snapshots import catalog, snapshot_of, unit

A, B, C = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


def ids(answers: list[Hit]) -> list[str]:
    return [answer.image.product_id for answer in answers]


def test_several_examples_equal_brute_force(tmp_path: Path) -> None:
    """The weighted mean of the liked less GAMMA times that of the unliked; no asked product is an answer."""
    products, rows = catalog(5, 120)
    rng, dice = np.random.default_rng(5), random.Random(5)
    vectors = normalise(rng.normal(size=(len(products), 16)).astype(np.float32))
    snapshot = snapshot_of(tmp_path, products, vectors, attributes=rows)
    of = {p: normalise(vectors[[q == p for q in products]].mean(axis=0, keepdims=True))[0] for p in products}
    for _ in range(100):
        liked = [(p, dice.choice([1.0, 0.5, 3.0])) for p in dice.sample(sorted(of), dice.randint(1, 4))]
        unliked = [(p, dice.choice([1.0, 2.0])) for p in dice.sample(sorted(of), dice.randint(0 + (len(liked) < 2), 3))]
        like, unlike = ([(p, product_query(snapshot, p), w) for p, w in side] for side in (liked, unliked))
        query = sum(w * of[p] for p, w in liked) / sum(w for _, w in liked)
        if unliked:
            query = query - GAMMA * sum(w * of[p] for p, w in unliked) / sum(w for _, w in unliked)
        query = query / np.linalg.norm(query)
        best: dict[str, float] = {}
        for product, score in zip(products, (vectors @ query).tolist(), strict=True):
            best[product] = max(best.get(product, -2), score)
        right = sorted(set(best) - {p for p, _ in liked + unliked}, key=lambda p: -best[p])[:10]
        found = similar_to_query(snapshot, mixed_query(like, unlike))
        assert ids(found) == right
        assert [answer.score for answer in found] == pytest.approx([best[p] for p in right], abs=3e-6)
        assert {answer.verdict for answer in found} == {None}


def test_one_example_alone_asks_as_it_would_otherwise(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, list("pqrs"), unit(A, [1, 0.5, 0], [1, 1, 0], C))
    assert similar_to_query(snapshot, mixed_query([("p", product_query(snapshot, "p"), 3.0)])) == similar_to_product(
        snapshot, "p"
    )


def test_what_is_unliked_draws_away(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, list("pquvw"), unit([1, 0, 0], [1, 0.1, 1], C, [1, 0, 0.6], [1, 0.4, 0]))
    p, q, u = (product_query(snapshot, name) for name in "pqu")
    assert ids(similar_to_query(snapshot, mixed_query([("p", p, 1), ("q", q, 1)]))) == ["v", "w", "u"]
    assert ids(similar_to_query(snapshot, mixed_query([("p", p, 1), ("q", q, 1)], [("u", u, 1)]))) == ["w", "v"]


def test_which_examples_cannot_ask(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, list("pq"), unit(A, B))
    p = ("p", product_query(snapshot, "p"), 1.0)
    for liked, unliked in (([], []), ([], [p]), ([p] * 21, []), ([p] * 18, [p] * 3)):
        with pytest.raises(BadQuestion, match="give 1 to 20"):
            mixed_query(liked, unliked)
    away = Query(-p[1].vectors, p[1].parts)
    with pytest.raises(BadQuestion, match="cancel each other out"):
        mixed_query([p, ("away", away, 1.0)])
    with pytest.raises(BadQuestion, match="several examples"):
        similar_to_query(snapshot, mixed_query([p, p]), SearchParams(verdict=Verdict.SAME))
    with pytest.raises(UnknownProduct, match="'x'"):
        product_query(snapshot, "x")


def test_an_explanation_names_the_asked_image_that_is_nearest(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "p", "q", "q", "r"], unit(A, B, [1, 0.2, 0], C, [0.3, 1, 0]))
    found = similar_to_product(snapshot, "p")
    why = explain(snapshot, found, product_query(snapshot, "p"))
    assert [(w.image_id, w.best[0]) for w in why] == [("i2", "i0"), ("i4", "i1")]
    assert dict(why[0].parts) == pytest.approx({"i0": 1 / 1.04**0.5, "i1": 0.2 / 1.04**0.5}, abs=1e-6)
    p, r = product_query(snapshot, "p"), product_query(snapshot, "r")
    (own,) = explain(
        snapshot,
        similar_to_query(snapshot, mixed_query([("p", p, 1), ("r", r, 1)])),
        mixed_query([("p", p, 1), ("r", r, 1)]),
    )
    assert [name for name, _ in own.parts] == ["p", "r"]


@pytest.mark.parametrize("folder", FOLDERS[-1:], ids=["golden"])
def test_an_explanation_names_the_view_that_matches_best(folder: Path) -> None:
    """The product fills the middle 60 % of the photo."""
    snapshot = Snapshot(folder, KEY)
    inner = np.asarray(decode(drawn(7)))
    photo = np.random.default_rng(0).integers(0, 256, (106, 106, 3), np.uint8)
    photo[21:85, 21:85] = inner
    data = encoded(photo, "PNG")
    embedder = snapshot.load_embedder()
    example = photo_query(snapshot, embedder, data)
    found = similar_to_query(snapshot, example)
    why = explain(snapshot, found, example)
    assert ids(found[:1]) == ["p7"]
    assert why[0].image_id == found[0].image.image_id
    assert [name for name, _ in why[0].parts] == list(VIEWS)
    assert why[0].best[0] == "middle 60 %"
    for view, (_, score) in zip(views(photo, embedder.spec.image_size), why[0].parts, strict=True):
        assert snapshot.projection
        alone = snapshot.projection.photo(embedder.embed(view[None]))
        row = snapshot.store.vectors(found[0].row, found[0].row + 1)
        assert score == pytest.approx(float((alone @ row.T)[0, 0]), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0,0,1,1", (0, 0, 200, 100)),
        ("0.5,0,0.5,1", (100, 0, 200, 100)),
        (" .25 , .5 , .5 , .5", (50, 50, 150, 100)),
        ("0.1,0.2,0.9,0.8", (20, 20, 200, 100)),
        ("0,0,0.001,0.001", (0, 0, 1, 1)),
        ("0.999,0.999,0.001,0.001", (199, 99, 200, 100)),
        ("10,20,30,40", (10, 20, 40, 60)),
        ("0,0,200,100", (0, 0, 200, 100)),
        ("0,0,1,50", (0, 0, 1, 50)),
        ("0,0,201,100", None),
        ("200,0,5,5", None),
        ("0.6,0,0.5,1", None),
        ("0,1,1,0.5", None),
    ],
)
def test_crops_are_fractions_or_pixels(text: str, box: tuple[int, int, int, int] | None) -> None:
    found = Crop.parse(text).box(200, 100)
    assert found == box or (isinstance(found, Refusal) and box is None and found.kind is Kind.BAD_CROP)
    assert box or "200 x 100" in str(found)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "nan,0,1,1", "1e9,0,1,1", "0,0,0,1", "0,0,1,0", "١,٢,٣,٤"]
)
def test_what_is_no_crop_is_named(text: str) -> None:
    with pytest.raises(BadQuestion, match=r"^crop is "):
        Crop.parse(text)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_of_the_upright_picture(kind: str, orientation: int) -> None:
    """A picture of four quarters, stored in each of the eight orientations: its right half, of which a quarter."""
    upright = np.zeros((300, 200, 3), np.uint8)
    upright[:150, 100:] = (200, 0, 0)
    upright[150:, 100:] = (0, 0, 200)
    upright[150:, :100] = (0, 200, 0)
    turns = [
        None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270,
    ]  # fmt: skip
    image = Image.fromarray(upright)
    turn = turns[orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image.transpose(turn) if turn is not None else image, kind, exif=exif)
    for crop in ("0.5,0.5,0.5,0.5", "100,150,100,150"):
        part = decode(data, Crop.parse(crop))
        assert isinstance(part, np.ndarray)
        assert part.shape == (150, 100, 3)
        assert abs(part[10:-10, 10:-10].astype(int) - (0, 0, 200)).max() < 40
    refused = decode(data, Crop.parse("100,150,101,150"))
    assert isinstance(refused, Refusal)
    assert refused.kind is Kind.BAD_CROP


def test_a_small_crop_of_a_large_photo_keeps_its_pixels() -> None:
    """The whole photo would be shrunk to a quarter first."""
    large = np.full((4000, 4000, 3), 255, np.uint8)
    large[1000:1256, 1000:1256] = np.asarray(decode(drawn(3, (256, 256), "PNG")))
    data = encoded(large, "PNG")
    part = decode(data, Crop.parse("1000,1000,256,256"))
    assert np.array_equal(np.asarray(part), np.asarray(decode(drawn(3, (256, 256), "PNG"))))


def test_a_cropped_photo_asks_for_what_is_in_the_crop(tmp_path: Path) -> None:
    embedder = load("colour_grid")
    snapshot = snapshot_of(tmp_path, [f"p{n}" for n in range(6)], vectors(*range(6)))
    both = np.concatenate([np.asarray(decode(drawn(1))), np.asarray(decode(drawn(4)))], axis=1)
    data = encoded(both, "PNG")
    for crop, wanted in (("0,0,0.5,1", "p1"), ("64,0,64,64", "p4")):
        found = similar_to_query(snapshot, photo_query(snapshot, embedder, data, Crop.parse(crop)))
        assert ids(found[:1]) == [wanted]
        assert found[0].score > 0.99
    with pytest.raises(BadPicture) as caught:
        photo_query(snapshot, embedder, data, Crop.parse("0,0,500,500"))
    assert caught.value.kind == "bad_crop"
    assert ids(similar_to_photo(snapshot, embedder, drawn(2))[:1]) == ["p2"]


def partitions(tmp_path: Path) -> dict[str, Snapshot]:
    """One lists p, in two images; another lists another p; a third one does not."""
    near = unit([1, 0.1, 0], [1, 0.9, 0])
    return {
        "1/1": snapshot_of(tmp_path, ["p", "p", "a", "b"], unit(A, [1, 0.2, 0], [1, 0.3, 0], C), Partition("1", "1")),
        "2/2": snapshot_of(tmp_path, ["b", "p"], unit(B, [0.1, 1, 0]), Partition("2", "2")),
        "3/3": snapshot_of(tmp_path, ["c", "a"], near, Partition("3", "3")),
    }


def test_a_product_is_asked_of_all_partitions_and_found_once_in_each_score_order(tmp_path: Path) -> None:
    serving = partitions(tmp_path)
    asked = queries_everywhere(serving, "p")
    found = similar_everywhere(serving, "p", asked, SearchParams())
    assert [(name, answer.image.product_id) for name, answer in found] == [("1/1", "a"), ("3/3", "c"), ("2/2", "b")]
    scores = [answer.score for _, answer in found]
    assert scores == sorted(scores, reverse=True)
    assert [answer.rank for _, answer in found] == [1, 2, 3]
    again = [similar_everywhere(serving, "p", asked, SearchParams(1, offset=offset))[0] for offset in range(3)]
    assert again == found
    with pytest.raises(UnknownProduct, match="'x' is in no index"):
        queries_everywhere(serving, "x")


def test_partitions_of_another_space_are_not_asked_unless_they_list_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = partitions(tmp_path)
    golden = Snapshot(FOLDERS[-1], KEY)
    assert golden.space != serving["1/1"].space
    assert set(queries_everywhere({**serving, "9/9": golden}, "p")) == {"1/1", "2/2", "3/3"}
    assert set(queries_everywhere({**serving, "9/9": golden}, "p3")) == {"9/9"}
    other = {"1/1": serving["1/1"], "9/9": golden, "8/8": Snapshot(FOLDERS[-1], KEY)}
    assert set(queries_everywhere(other, "p3")) == {"9/9", "8/8"}
    monkeypatch.setattr(type(golden), "space", property(lambda snapshot: (str(snapshot.manifest.partition),)))
    assert set(queries_everywhere(serving, "p")) == {"1/1", "2/2"}


def test_a_filter_is_asked_of_the_partitions_that_have_its_columns(tmp_path: Path) -> None:
    def shop(name: str, **attributes: str) -> Snapshot:
        rows = [attributes, attributes]
        return snapshot_of(tmp_path, ["p", name], unit(A, [1, 1, 0]), Partition(name, "1"), attributes=rows)

    serving = {"a/1": shop("a", brand="CCM"), "b/1": shop("b", size="M"), "c/1": shop("c", brand="Bauer")}
    asked = queries_everywhere(serving, "p")
    found = similar_everywhere(serving, "p", asked, SearchParams(filter=parse(["brand:ccm,bauer"])))
    assert [name for name, _ in found] == ["a/1", "c/1"]
    with pytest.raises(BadQuestion, match="Its columns: brand"):
        similar_everywhere(serving, "p", asked, SearchParams(filter=parse(["colour:red"])))
