"""The view of a partition at one moment: a snapshot as it was written, or one with its live changes."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.embedding.engines.runtime import Runtime
from shared.errors import UnknownProduct
from shared.index.columns import Columns
from shared.index.duplicates import Duplicates
from shared.index.filters import Filter
from shared.index.listing import Listing
from shared.index.neighbour_table import ASKING
from shared.index.product_table import ProductTable
from shared.index.vector_store import VectorStore
from shared.snapshot.manifest import Manifest
from shared.snapshot.network_files import carried_embedder
from shared.snapshot.verdicts import QueryKind, Verdicts
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors


class Space(StrEnum):
    """A space in which vectors are compared: one finds products that look alike, the other the product in a photo."""

    PRODUCTS = "products"
    PHOTOS = "photos"


class Neighbours(NamedTuple):
    """The products nearest to one, best first: the row of each one's best image `(n,)`, and its score `(n,)`. `whole`:
    there are no others."""

    rows: NDArray[np.integer]
    scores: Vectors
    whole: bool


class Pinned(NamedTuple):
    """The rows `(n,)` and scores `(n,)` that the hits of one product begin with. `apart`: the numbers of the pinned and
    the blocked products, which are not among its other hits."""

    rows: NDArray[np.int64]
    scores: Vectors
    apart: frozenset[int]


NOT_PINNED = Pinned(np.zeros(0, np.int64), np.zeros(0, np.float32), frozenset())


class SnapshotView(ABC):
    """A partition as searches and routes see it. Nothing in it changes, so an answer may hold on to it. Safe to read
    from many threads."""

    id: str
    tag: str
    """Another one wherever answers may differ: the id, and which live changes are in it."""
    folder: Path
    manifest: Manifest
    signed: bool
    """True if its signature was checked, so that it is known who made it."""
    projection: Projection | None
    product_projection: Projection | None
    verdicts: Mapping[QueryKind, Verdicts]
    products: ProductTable
    store: VectorStore
    product_store: VectorStore
    """The same rows in the space in which products are compared with each other; `store` itself where that is one."""
    duplicates: Duplicates
    waiting: Sequence[tuple[int, int]] = ()
    """Change and place of each image that its network has still to embed."""

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """The attributes of all rows."""

    @property
    @abstractmethod
    def listing(self) -> Listing:
        """The products to browse."""

    @abstractmethod
    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        """The rows that the filter admits as hits: `(rows,)`. Raises `BadQuestion`."""

    @abstractmethod
    def neighbours(self, product: int, without: Collection[int] = ()) -> Neighbours:
        """The products nearest to one, without those of some numbers, as far down as the neighbour table is sure."""

    @abstractmethod
    def pinned(self, product_id: str, product: int) -> Pinned:
        """The pinned and the blocked products of this product."""

    @property
    def spec(self) -> EmbedderSpec:
        """The network that made its vectors."""
        return self.manifest.spec

    @property
    def several_views(self) -> bool:
        """True if photos are embedded in several views: not if vectors are meant to be as the network gives them."""
        return self.manifest.quality.learned is not None

    @property
    def space(self) -> tuple[str, ...]:
        """The identity of the space of vectors and scores. Scores of views whose spaces are equal can be compared."""
        learned = [f"{name} {digest.sha256}" for name, digest in self.manifest.files.items() if "projection." in name]
        return (self.spec.fingerprint, str(self.manifest.dimension), *sorted(learned))

    def number(self, product_id: str) -> int:
        """The product's number in the table. Raises `UnknownProduct`."""
        found = self.products.find(product_id)
        if found is None:
            raise UnknownProduct(f"The product {product_id!r} is not in the index of {self.manifest.partition}.")
        return found

    def store_of(self, space: Space) -> VectorStore:
        """The vectors of all rows in that space."""
        return self.product_store if space is Space.PRODUCTS else self.store

    def query_vectors(self, product: int, space: Space = Space.PRODUCTS) -> Vectors:
        """The vectors that a product is searched by, each for itself: those of its first `ASKING` images, `(n, d)`."""
        images = self.products.images(product)[:ASKING]
        return self.store_of(space).vectors(images.start, images.stop)

    def load_embedder(self, runtime: Runtime | None = None) -> Embedder:
        """The network that made its vectors. Raises as `open_embedder` does."""
        return carried_embedder(self.folder, self.manifest, runtime or Runtime(), signed=self.signed)
