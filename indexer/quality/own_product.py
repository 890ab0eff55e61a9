"""Check the index at the end of a run: an indexed image that is searched for as a photo must find its own product."""

from dataclasses import dataclass

import numpy as np

from indexer.ingest.pipeline import Indexed
from indexer.metric.choose import Metric
from indexer.metric.fit import Features, placed
from shared.index.duplicates import Duplicates
from shared.index.product_table import ProductImage

_ASKED, _NAMED = 200, 5


@dataclass(frozen=True, slots=True)
class Astray:
    """An image that finds another product first: the best scores of both."""

    image: ProductImage
    score: float
    found: ProductImage
    found_score: float

    def __str__(self) -> str:
        return (
            f"image {self.image.image_id} of {self.image.product_id} ({self.score:.2f}) finds "
            f"{self.found.product_id} ({self.found_score:.2f})"
        )


def astray(indexed: Indexed, metric: Metric, twice: Duplicates) -> list[Astray]:
    """Search for 200 of the indexed images, each seen in one view. Products that are listed `twice`, or that show the
    very same file, may find each other."""
    groups, contents = indexed.groups, indexed.contents
    rows = np.sort(np.random.default_rng(0).permutation(len(indexed.raw))[:_ASKED])
    queries = placed(metric.projection, Features(indexed.raw[rows], indexed.plain), 1)
    owners, lost = groups.owners_of(rows).tolist(), []
    for row, owner, query in zip(rows.tolist(), owners, queries, strict=True):
        own = metric.vectors @ query  # one after another: all together are large for a large catalog
        best, mine = int(own.argmax()), groups.rows(owner)
        other = int(groups.owners_of(np.array([best]))[0])
        twin = other in twice.of_product(owner) or contents[best] == contents[row]
        score = float(own[mine.start : mine.stop].max())
        if other != owner and own[best] > score + 1e-6 and not twin:
            lost.append(Astray(indexed.images[row], score, indexed.images[best], float(own[best])))
    return lost


def sentence(lost: list[Astray], images: int) -> str:
    """Name the images that went astray, of an index of so many; "" where all found their product."""
    if not lost:
        return ""
    named = "; ".join(map(str, lost[:_NAMED])) + (f"; and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
    return (
        f"Of {min(_ASKED, images)} indexed images that were searched for as photos, {len(lost)} find another product "
        f"first, which looks more like it in the space of photos: {named}."
    )
