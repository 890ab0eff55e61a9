"""Fit the verdicts between products: what a score means where products are searched by a product.

`same` is one thing listed twice: pixels decide, as in the health report, and no score does. How many copies they miss
is measured on copies of the catalog's own pictures, made smaller, trimmed and encoded anew. `variant` is one thing in
another colour: fitted where a column of the catalog keeps few products together (a style, a model), so that most of
what is called so is right by it; elsewhere as alike as the catalog's own pictures are to themselves in other colours.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.ingest.picture_stats import ONE_PICTURE_BELOW, difference, measure_picture
from indexer.ingest.pipeline import Indexed
from indexer.metric.likeness import filled_in
from indexer.quality.photos import Photos
from shared.images.decode import Decoded, Picture, decode_sized
from shared.index.columns import Column
from shared.index.duplicates import Duplicates
from shared.index.neighbour_table import NeighbourTable
from shared.index.row_groups import RowGroups
from shared.refusals import Refusal
from shared.snapshot.verdicts import ONE_PICTURE, Verdict, Verdicts
from shared.snapshot.writer import ProductSpace
from shared.vectors.unit import Vectors, normalise

JUDGED = 48  # products
_RIGHT_VARIANT, _SEEN = 0.85, 10  # of those called so; so many of them tell
# Of recoloured pictures so many are less alike. Real variants are more alike than these are: chosen on 167 garments in
# several colours (EfficientNet-Lite2), where it calls 0.95 rightly and finds 0.69.
_RECOLOURED = 0.72
_SHOWN = 5  # so many hits of the median product are similar
_NEARLY_WHITE, _PALE, _GREY = 240, 25, 40  # of 255


def fit_product_verdicts(
    indexed: Indexed,
    space: ProductSpace,
    neighbours: NeighbourTable,
    duplicates: Duplicates,
    photos: Photos,
    picture: Callable[[int], bytes],
    styles: Sequence[Column] = (),
) -> Verdicts | None:
    """Fit the verdicts of a run. `picture` returns the bytes of a row's image; `styles`: columns that keep few products
    together. None for a single product."""
    groups, scores = indexed.groups, neighbours.scores
    if not scores.shape[1]:
        return None
    once = np.isin(np.arange(groups.count), duplicates.products, invert=True)
    firsts = scores[once, 0] if once.any() else scores[:, 0]
    variant = _variant_level(groups, neighbours, duplicates, styles)
    if variant is None and styles:
        variant = 1.0  # by the catalog's own columns no score tells
    elif variant is None:
        recoloured = _likeness(indexed, space, photos, picture)
        variant = float(np.quantile(recoloured, _RECOLOURED)) if len(recoloured) else 1.0
    similar = min(variant, float(np.median(scores[:, min(_SHOWN, scores.shape[1]) - 1])))
    levels = {Verdict.SIMILAR: similar, Verdict.VARIANT: variant}
    pictures = [picture(int(groups.first[product])) for product in _judged(groups)]
    missed = [not seen for data in pictures if (seen := _seen_as_copy(data)) is not None]
    return Verdicts(
        **levels,
        same=ONE_PICTURE,
        false_alarms={name: round(float((firsts >= level).mean()), 4) for name, level in levels.items()},
        lost=round(float(np.mean(missed)), 4) if missed else 0.0,
        fitted_on=f"{len(missed)} copies, and the first hits of {len(firsts)} products",
    )


def copy_of(picture: Picture) -> Picture:
    """A picture as it is when it is listed again: 3 % trimmed, at 0.7 of its size, encoded anew."""
    height, width = picture.shape[:2]
    top, left = round(0.015 * height), round(0.015 * width)
    image = Image.fromarray(picture[top : height - top, left : width - left])
    image = image.resize((max(1, round(0.7 * width)), max(1, round(0.7 * height))))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file).convert("RGB"))


def recoloured_of(picture: Picture) -> Picture:
    """A picture whose thing has another colour; what is nearly white stays, and greys become a colour."""
    hue, saturation, value = (
        np.asarray(band).astype(np.int64) for band in Image.fromarray(picture).convert("HSV").split()
    )
    rng = np.random.default_rng(int(value.sum()))
    thing = (value < _NEARLY_WHITE) | (saturation > _PALE)
    grey = thing & (saturation < _GREY)
    hue = np.where(grey, rng.integers(256), hue + rng.integers(60, 196)) % 256
    saturation = np.where(grey, 140, saturation)
    lighter = 40 if thing.any() and value[thing].mean() < 90 else 0
    value = np.where(thing, np.clip(0.8 * value + lighter, 0, 255), value)
    bands = [Image.fromarray(band.astype(np.uint8)) for band in (hue, saturation, value)]
    return np.asarray(Image.merge("HSV", bands).convert("RGB"))


def _judged(groups: RowGroups) -> NDArray[np.int64]:
    """Some of the products."""
    return np.sort(np.random.default_rng(0).permutation(groups.count)[:JUDGED])


def _seen_as_copy(data: bytes) -> bool | None:
    """Tell whether the pixels of a picture and its copy give it away; None if it cannot be read."""
    original = decode_sized(data)
    if isinstance(original, Refusal):
        return None
    changed = copy_of(original.picture)
    copy = Decoded(changed, changed.shape[1], changed.shape[0])
    return difference(measure_picture(original), measure_picture(copy)) < ONE_PICTURE_BELOW


def _likeness(
    indexed: Indexed, space: ProductSpace, photos: Photos, picture: Callable[[int], bytes]
) -> NDArray[np.float32]:
    """The scores of some products' first images, recoloured, to their products."""
    groups, found = indexed.groups, []
    products = _judged(groups)
    pictures = [picture(int(groups.first[product])) for product in products]
    views = photos.embed_changed(pictures, recoloured_of, recoloured_of.__name__)
    for product, raw in zip(products.tolist(), views, strict=True):
        if raw is not None:
            query: Vectors = space.projection.images(raw) if space.projection else normalise(raw[:, : indexed.plain])
            rows = groups.rows(product)
            vectors = space.vectors[rows.start : rows.stop]
            query[:, space.own :] = vectors[:1, space.own :]  # a variant's neighbours are those of the product
            found.append(float((query @ vectors.T).max()))
    return np.array(found, np.float32)


def _variant_level(
    groups: RowGroups, neighbours: NeighbourTable, duplicates: Duplicates, styles: Sequence[Column]
) -> float | None:
    """The least score from which most hits share the value of a column, of the column that finds most; None where
    they are too few to tell. Duplicates do not count, nor products without a value."""
    level, most = None, _SEEN - 1
    owners = groups.owners_of(neighbours.rows[:, :10])
    other = np.array([np.isin(row, duplicates.of_product(n), invert=True) for n, row in enumerate(owners)])
    for column in styles:
        codes, filled = column.codes[groups.first], filled_in(column, groups)
        counted = other & filled[:, None] & filled[owners]
        scores = neighbours.scores[:, :10][counted]
        order = np.argsort(-scores, kind="stable")
        right = np.cumsum((codes[owners] == codes[:, None])[counted][order])
        enough = np.flatnonzero(right >= _RIGHT_VARIANT * np.arange(1, len(order) + 1))
        if len(enough) and right[enough[-1]] > most:
            level, most = float(scores[order[enough[-1]]]), right[enough[-1]]
    return level
