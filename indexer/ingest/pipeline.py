"""The flow of a run: catalog rows -> fetch -> decode -> embed -> vectors, each stage bounded, all of them at once.

Workers take URLs, fetch and decode; a bounded queue holds them back when the network is slower; one consumer embeds in
batches. Vectors go through the cache, so a run that is killed goes on where it stopped.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress

import numpy as np

from indexer.catalog.parsing import Catalog, CatalogRow
from indexer.ingest.cache import Cache, Known, content_hash
from indexer.ingest.download import Downloader, Fetched, Limits, Unchanged
from indexer.ingest.ledger import Ledger
from indexer.ingest.picture_stats import EDGE, PictureStats, measure_picture
from indexer.ingest.report import RunReport
from indexer.progress import Bar
from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.errors import RunStopped
from shared.images.decode import Picture, decode_sized
from shared.images.memory import MOST_AT_ONCE
from shared.index.product_table import ProductImage
from shared.index.row_groups import RowGroups
from shared.live.reading import UPLOADED
from shared.refusals import Kind, Refusal
from shared.storage.url_template import UrlTemplate
from shared.vectors.unit import Vectors, normalise, usable

BATCH = 16
# Seconds that a batch waits to grow.
_PATIENCE = 0.2


@dataclass(frozen=True, slots=True)
class Indexed:
    """The result of the pipeline: images, and the groups that products make of them; row by row their content hashes
    and the network's raw vectors, of which the first `plain` values are the head; and the report."""

    images: Sequence[ProductImage]
    groups: RowGroups
    contents: Sequence[str]
    raw: Vectors
    plain: int
    report: RunReport


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run: `max_failures` is the share of images that may be lost."""

    max_failures: float
    retry_failed: bool
    limits: Limits


def index_images(catalog: Catalog, template: UrlTemplate, embedder: Embedder, cache: Cache, plan: Plan) -> Indexed:
    """Fetch and embed a catalog's images. Raises `RunStopped` if more are lost than may be, or nothing is left."""
    started = time.monotonic()
    spec = embedder.spec
    ledger = Ledger(catalog, template, cache, spec.fingerprint, plan.max_failures)
    asyncio.run(_Run(ledger, embedder, cache, plan).go())
    contents = ledger.contents()
    if not contents:
        reasons = ", ".join({str(item.refusal.kind): None for item in ledger.refused()})
        raise RunStopped(f"No image of the catalog {catalog.uri} could be used ({reasons}). Nothing was published.")
    vectors = cache.vectors(spec.fingerprint, contents.values(), spec.dimension)
    images = [ProductImage(row.product_id, row.image_id, ledger.located[row], row.attributes) for row in contents]
    report = ledger.report(contents, spec.name, time.monotonic() - started)
    groups = RowGroups.of(image.product_id for image in images)
    return Indexed(images, groups, list(contents.values()), vectors, spec.plain_dimension, report)


def fetch_images(
    catalog: Catalog, template: UrlTemplate, cache: Cache, plan: Plan
) -> tuple[RunReport, dict[CatalogRow, str]]:
    """Fetch a catalog's images and embed nothing. Returns the report and the content hash of each row's bytes."""
    started = time.monotonic()
    ledger = Ledger(catalog, template, cache, "", plan.max_failures)
    asyncio.run(_Run(ledger, None, cache, plan).go())
    contents = ledger.contents()
    return ledger.report(contents, "", time.monotonic() - started), contents


@dataclass(frozen=True, slots=True)
class _Content:
    """An image's content hash, and its bytes if they were just fetched."""

    hash: str
    data: bytes | None = None


class _Run:
    """The stages of one run and the queues between them. The outcome of each URL goes into the ledger."""

    def __init__(self, ledger: Ledger, embedder: Embedder | None, cache: Cache, plan: Plan) -> None:
        self._ledger, self._embedder, self._cache, self._plan = ledger, embedder, cache, plan
        self._tally = ledger.tally
        self._known = cache.known(ledger.urls)
        self._vectors = set[str]()  # contents that had one when the run began
        if embedder:
            self._vectors = cache.embedded(embedder.spec.fingerprint, {had.content for had in self._known.values()})
        self._embedding: set[str] = set()
        self._decoding: dict[str, asyncio.Event] = {}
        self._queue: asyncio.Queue[tuple[str, Picture] | None] = asyncio.Queue(2 * BATCH)
        self._gathering = asyncio.Lock()
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")

    async def go(self) -> None:
        """Bring every URL to its outcome."""
        limits, total = self._plan.limits, len(self._ledger.urls)
        urls = iter(self._ledger.urls)
        try:
            with Bar("images", total) as self._bar:
                async with Downloader(limits) as self._downloader, asyncio.TaskGroup() as embedding:
                    if self._embedder:
                        embedding.create_task(self._embed_all(self._embedder, embedding))
                    async with asyncio.TaskGroup() as fetching:
                        # Twice as many as connections: those that wait before another try hold none.
                        for _ in range(min(2 * limits.connections, total)):
                            fetching.create_task(self._work(urls))
                    await self._queue.put(None)
            self._ledger.close()
        except ExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._decoders.shutdown(cancel_futures=True)

    async def _work(self, urls: Iterable[str]) -> None:
        for url in urls:
            self._ledger.write(url, await self._settle(url))
            self._bar.advance()

    async def _settle(self, url: str) -> str | Refusal:
        """Bring one URL to its outcome in this run, and return that; an older picture may be kept all the same."""
        known = self._known.get(url)
        found = await self._fetch(url, known)
        outcome = found if isinstance(found, Refusal) else await self._embed(found)
        if isinstance(outcome, Refusal) and known and self._cache.has_bytes(known.good):
            await self._embed(_Content(known.good))  # it may be kept, and a new network has no vector of it yet
        return outcome

    async def _fetch(self, url: str, known: Known | None) -> _Content | Refusal:
        """Fetch the URL's content. The server is asked only if it must be, and sends bytes only if they changed."""
        here = known if known and self._has(known.content) else None
        if here and (url.startswith(UPLOADED) or (self._plan.retry_failed and not here.failed)):
            return _Content(here.content)
        found = await self._downloader.fetch(url, here.validators if here else None)
        if isinstance(found, Fetched):
            self._tally.fetched += 1
            # To embed, files need no second copy: they can be read again.
            again = self._embedder is not None and url.startswith("file:")
            content = content_hash(found.data) if again else self._cache.keep(found.data)
            self._cache.record(url, found.validators, content)
            return _Content(content, found.data)
        if isinstance(found, Unchanged) and here:
            self._tally.unchanged += 1
            return _Content(here.content)
        return found if isinstance(found, Refusal) else Refusal(Kind.HTTP_ERROR, "The server answers 304 unasked.")

    def _has(self, content: str) -> bool:
        """Tell whether the cache has what this run needs of that content: its vector, or else its bytes."""
        return self._has_vector(content) or self._cache.has_bytes(content)

    def _has_vector(self, content: str) -> bool:
        if content in self._vectors:
            return True
        return self._embedder is not None and self._cache.has_vector(self._embedder.spec.fingerprint, content)

    async def _embed(self, found: _Content) -> str | Refusal:
        """Make sure that the content has a vector: at once, or soon by the tasks that empty the queue."""
        content = found.hash
        if self._embedder is None:
            return content
        while content in self._decoding:  # under another URL, at this moment
            await self._decoding[content].wait()
        if content in self._ledger.bad:
            return self._ledger.bad[content]
        if content in self._embedding:
            return content
        if self._has_vector(content):
            self._tally.reused += 1
            return content
        self._decoding[content] = asyncio.Event()
        data = found.data if found.data is not None else self._cache.bytes(content)
        spec = self._embedder.spec
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._decoders, _prepared, data or b"", spec)
        self._decoding.pop(content).set()
        if isinstance(prepared, Refusal):
            self._ledger.bad[content] = prepared
            return prepared
        picture, stats = prepared
        self._cache.put_stats(content, stats)
        self._embedding.add(content)
        await self._queue.put((content, picture))
        return content

    async def _embed_all(self, embedder: Embedder, tasks: asyncio.TaskGroup, others: int = 1) -> None:
        """Embed the pictures of the queue, until it ends. After a first batch, for which the network is loaded, so many
        `others` do the same: with two batches under way, a core that decodes meanwhile holds up one of them only."""
        while pictures := await self._batch():
            vectors = await asyncio.to_thread(embedder.embed, np.stack(list(pictures.values())))
            self._keep(embedder, list(pictures), vectors)
            if others:
                tasks.create_task(self._embed_all(embedder, tasks, others - 1))
                others = 0

    async def _batch(self) -> dict[str, Picture]:
        """Pictures from the queue: a full batch while they come fast, a smaller one rather than wait; {} at the end."""
        pictures = dict[str, Picture]()
        async with self._gathering:
            while len(pictures) < BATCH:
                try:
                    # Not wait_for, which can swallow a cancellation before Python 3.12.
                    async with asyncio.timeout(_PATIENCE if pictures else None):
                        item = await self._queue.get()
                except TimeoutError:
                    break
                if item is None:
                    self._queue.put_nowait(None)  # for the others
                    break
                pictures[item[0]] = item[1]
        return pictures

    def _keep(self, embedder: Embedder, contents: Sequence[str], vectors: Vectors) -> None:
        good = usable(normalise(vectors))
        for content in compress(contents, ~good):
            self._ledger.bad[content] = Refusal(Kind.BAD_VECTOR, "The network gives no finite vector for this picture.")
        self._tally.embedded += int(good.sum())
        self._cache.put_vectors(embedder.spec.fingerprint, compress(contents, good), vectors[good])


def _prepared(data: bytes, spec: EmbedderSpec) -> tuple[Picture, PictureStats] | Refusal:
    """The picture as the network takes it, and its measurements."""
    found = decode_sized(data, edge=max(spec.edge(several=False), EDGE), memory=MOST_AT_ONCE)
    return found if isinstance(found, Refusal) else (spec.square(found.picture), measure_picture(found))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
