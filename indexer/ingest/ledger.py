"""Decide on each URL of a run, and so on each row: indexed, kept as it was, or refused with a kind."""

from collections.abc import Iterable, Sequence

from indexer.catalog.parsing import Catalog, CatalogRow, RefusedRow
from indexer.ingest.cache import Cache
from indexer.ingest.report import RunReport, Tally
from shared.errors import RunStopped
from shared.refusals import LIVE, Kind, Refusal
from shared.storage.url_template import UrlTemplate

# So many failures without a single success mean that the image server is down.
_HOPELESS = 200


class Ledger:
    """The decisions of one run. `located`: the URL of each row's image; `bad`: contents that are no usable picture.

    `network` is the fingerprint of the network that embeds, "" where images are only fetched; `max_failures` the share
    of images that may be lost.
    """

    def __init__(
        self, catalog: Catalog, template: UrlTemplate, cache: Cache, network: str, max_failures: float
    ) -> None:
        self._catalog, self._cache, self._network, self._max_failures = catalog, cache, network, max_failures
        self.tally = Tally()
        self.located: dict[CatalogRow, str] = {}
        self.bad: dict[str, Refusal] = {}
        self._refused = list(catalog.refused)
        for row in catalog.rows:
            url = row.url or template.fill(row.product_id, row.image_id, row.attributes)
            if isinstance(url, Refusal):
                self._refused.append(RefusedRow(row, url))
            else:
                self.located[row] = url
        self.urls: Sequence[str] = list(dict.fromkeys(self.located.values()))
        self._outcomes: dict[str, str | Refusal] = {}
        self._lost = self._usable = 0

    def write(self, url: str, outcome: str | Refusal) -> None:
        """Note the outcome of a URL in this run: the content hash of its image, or a refusal. Raises `RunStopped`."""
        self._outcomes[url] = outcome
        if isinstance(outcome, Refusal):
            self._lost += 1
            self._stop_if_hopeless(outcome)
        else:
            self._usable += 1

    def close(self) -> None:
        """Decide on each URL when all outcomes are known: remember them, and keep the images that an earlier run had.

        Raises `RunStopped` where more is lost than may be.
        """
        self._lost = 0
        before = self._cache.known(self._outcomes)
        usable, failed, gone = list[str](), list[str](), list[str]()
        for url, outcome in self._outcomes.items():
            final = self.bad.get(outcome, outcome) if isinstance(outcome, str) else outcome
            known = before.get(url)
            if isinstance(final, str):
                if self._network and (not known or known.failed or known.good != final):
                    usable.append(url)
            elif final.kind == Kind.GONE:
                gone.append(url)  # what was taken down must not come back
            else:
                failed.append(url)
                if known and known.good and self._has_result(known.good):
                    self.tally.kept[url], final = final, known.good
            self._lost += isinstance(final, Refusal) or url in self.tally.kept
            self._outcomes[url] = final
        self._cache.settle(usable, usable=True)
        self._cache.settle(failed, usable=False)
        self._cache.forget(gone)
        if refusal := next(iter(self.bad.values()), None):
            self._stop_if_hopeless(refusal)

    def refused(self) -> list[RefusedRow]:
        """Every row that is not indexed, in the catalog's order."""
        late = [RefusedRow(row, why) for row in self.located if isinstance(why := self._outcome(row), Refusal)]
        return sorted(self._refused + late, key=lambda item: item.row.number)

    def contents(self) -> dict[CatalogRow, str]:
        """The content hash of every row that can be indexed, grouped by product, products by their first row."""
        groups: dict[str, dict[CatalogRow, str]] = {}
        for row in self.located:
            if isinstance(content := self._outcome(row), str):
                groups.setdefault(row.product_id, {})[row] = content
        return {row: content for group in groups.values() for row, content in group.items()}

    def report(self, indexed: Iterable[CatalogRow], model: str, seconds: float) -> RunReport:
        """Report the outcome of every row; `indexed` are those that are in the index."""
        refused = (item.row for item in self._catalog.refused if item.refusal.kind not in LIVE)
        everything = (*self._catalog.rows, *refused)
        products = len({row.product_id for row in everything if row.product_id})
        return RunReport(self._catalog.count, products, list(indexed), self.refused(), self.tally, seconds, model)

    def _outcome(self, row: CatalogRow) -> str | Refusal:
        return self._outcomes[self.located[row]]

    def _has_result(self, content: str) -> bool:
        """Tell whether that content can stand in for an image that failed."""
        return self._cache.has_vector(self._network, content) if self._network else self._cache.has_bytes(content)

    def _stop_if_hopeless(self, last: Refusal) -> None:
        total = len(self.urls)
        if self._lost > self._max_failures * total:
            raise RunStopped(
                f"{self._lost:,} of {total:,} images are lost, more than MAX_FAILURES={self._max_failures:g} "
                f"allows; the last: {last.detail} Nothing was published. Mend the images, or raise MAX_FAILURES."
            )
        if self._lost >= _HOPELESS and not self._usable:
            raise RunStopped(
                f"None of the first {self._lost:,} images could be had; the last: {last.detail} Nothing was published."
            )
