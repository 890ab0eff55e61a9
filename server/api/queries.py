"""What is sent becomes what asks. Photos take turns, so that threads are left for what needs no network."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from server.api.photo_body import from_base64
from server.api.requests import BatchedQuestion, ProductOrPhoto
from server.api.requests import Example as Sent
from server.inference.photo_queue import PhotoQueue
from server.serving.snapshots import Snapshots
from shared.images.crop import Crop
from shared.search.queries import Query, mixed_query, photo_query, product_query
from shared.snapshot.view import SnapshotView

# Of questions with several photos, so many are decoded at once and embedded together.
_TOGETHER = 4


class Queries:
    """Makes examples. `fetch` has the bytes of a URL. Safe to use from many threads."""

    def __init__(self, snapshots: Snapshots, fetch: Callable[[str], bytes], turns: PhotoQueue) -> None:
        self.snapshots, self.fetch, self._turns = snapshots, fetch, turns
        self._together = ThreadPoolExecutor(_TOGETHER, "photos")

    def photo(self, snapshot: SnapshotView, photo: bytes, crop: str | None, wait: bool = False) -> Query:
        """Raises `BadQuestion`, `BadPicture`, `NotReady`, and `Busy` where it need not wait for its turn."""
        part = Crop.parse(crop) if crop is not None else None
        with self._turns.under_way(wait=wait):
            return photo_query(snapshot, self.snapshots.embedder(snapshot), photo, part)

    def begun(self, snapshot: SnapshotView, sent: BatchedQuestion) -> Callable[[], Query]:
        """Begin with what a question of a batch asks of. It is had, or its error raised, by a call."""
        return self.mixed(snapshot, sent.like, sent.unlike) if sent.like else self._begun(snapshot, sent)

    def mixed(self, snapshot: SnapshotView, like: Sequence[Sent], unlike: Sequence[Sent]) -> Callable[[], Query]:
        """The same with several that ask together."""
        sent = (*like, *unlike)
        begun = [self._begun(snapshot, one) for one in sent]

        def ask() -> Query:
            named = [
                (one.product_id or f"photo {number}", example(), one.weight)
                for number, (one, example) in enumerate(zip(sent, begun, strict=True), 1)
            ]
            return mixed_query(named[: len(like)], named[len(like) :])

        return ask

    def _begun(self, snapshot: SnapshotView, sent: ProductOrPhoto) -> Callable[[], Query]:
        if sent.product_id:
            return partial(product_query, snapshot, sent.product_id)
        return self._together.submit(self._waited, snapshot, sent).result

    def _waited(self, snapshot: SnapshotView, sent: ProductOrPhoto) -> Query:
        photo = from_base64(sent.image_base64) if sent.image_base64 else self.fetch(sent.image_url)
        return self.photo(snapshot, photo, sent.crop, wait=True)
