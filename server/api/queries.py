"""Build query vectors from request bodies."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

from server.api.photo_body import from_base64
from server.api.requests import BatchedQuestion, Example, ProductOrPhoto
from server.inference.photo_queue import PhotoQueue
from server.serving.snapshots import Snapshots
from shared.images.crop import Crop
from shared.search.photo_query import photo_queries
from shared.search.queries import Query, mixed_query, product_query
from shared.snapshot.view import SnapshotView, Space

# Photos of requests that have several: so many are decoded at once and embedded together.
_PHOTOS_AT_ONCE = 4
Check: TypeAlias = Callable[[], None]


class Queries:
    """Build queries from products and photos. Photos queue, so that threads are left for requests that need no network.

    `fetch` returns the bytes of a photo's URL. Safe to use from many threads.
    """

    def __init__(self, snapshots: Snapshots, fetch: Callable[[str], bytes], queue: PhotoQueue) -> None:
        self.snapshots, self.fetch, self._queue = snapshots, fetch, queue
        self._pool = ThreadPoolExecutor(_PHOTOS_AT_ONCE, "photos")

    def photo(
        self,
        check: Check,
        snapshot: SnapshotView,
        photo: bytes,
        crop: str | None,
        things: int = 1,
        wait: bool = False,
    ) -> list[Query]:
        """Embed a photo, or its part `crop`: a query for each of at most so many things in it. Raises `BadQuestion`,
        `BadPicture`, `NotReady`, and `Busy` if the queue is full: at once, or after some seconds if the photo can
        `wait`. `check` raises if nobody waits for the answer any more."""
        part = Crop.parse(crop) if crop is not None else None
        with self._queue.under_way(check, wait=wait):
            return photo_queries(snapshot, self.snapshots.embedder(snapshot), photo, part, things)

    def start(self, check: Check, snapshot: SnapshotView, question: BatchedQuestion) -> Callable[[], Query]:
        """Start to embed the photos of a question of a batch. Calling the result waits for the query, or raises."""
        if question.like:
            return self.start_mixed(check, snapshot, question.like, question.unlike)
        return self._start_one(check, snapshot, question)

    def start_mixed(
        self, check: Check, snapshot: SnapshotView, positives: Sequence[Example], negatives: Sequence[Example]
    ) -> Callable[[], Query]:
        """The same for positive and negative examples that make one query."""
        examples = (*positives, *negatives)
        # Products are compared with each other in their own space, and with photos in that of photos.
        space = Space.PRODUCTS if all(example.product_id for example in examples) else Space.PHOTOS
        started = [self._start_one(check, snapshot, example, space) for example in examples]

        def query() -> Query:
            named = [
                (example.product_id or f"photo {number}", part(), example.weight)
                for number, (example, part) in enumerate(zip(examples, started, strict=True), 1)
            ]
            return mixed_query(named[: len(positives)], named[len(positives) :])

        return query

    def _start_one(
        self, check: Check, snapshot: SnapshotView, example: ProductOrPhoto, space: Space = Space.PRODUCTS
    ) -> Callable[[], Query]:
        if example.product_id:
            return partial(product_query, snapshot, example.product_id, space)
        return self._pool.submit(self._sent_photo, check, snapshot, example).result

    def _sent_photo(self, check: Check, snapshot: SnapshotView, sent: ProductOrPhoto) -> Query:
        check()
        photo = from_base64(sent.image_base64) if sent.image_base64 else self.fetch(sent.image_url)
        return self.photo(check, snapshot, photo, sent.crop, wait=True)[0]
