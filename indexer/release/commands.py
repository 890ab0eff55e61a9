"""The commands that move snapshots between this host, a depot and other hosts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from indexer.progress import Bar
from indexer.release.ship import ship
from shared.audit import audited
from shared.depot.depot import DepotPartition
from shared.depot.publish import publish
from shared.depot.pull import pull
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.lease import wait_until_free
from shared.snapshot.manifest import Manifest
from shared.storage.bucket import Advance, Bucket
from shared.storage.buckets import open_bucket

_MIB = 1024 * 1024
# How long going back waits for the servers of this host to do so.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Shipping:
    """A partition's snapshots on this host, and the depot if one is given."""

    partition: Partition
    data: Path
    depot: str | None = None
    keep: int = 5
    signing_key: str | None = field(default=None, repr=False)

    @property
    def here(self) -> PartitionFolder:
        return PartitionFolder(self.data, self.partition)

    def publish(self, console: Console) -> None:
        """Make this host's current snapshot the depot's."""
        bucket = self._given_bucket()
        with audited(self.data, "publish", self.partition, {"depot": bucket.uri}) as what:
            published = what["snapshot"] = publish(self.here, bucket, key=self.signing_key, meter=_meter)
        console.print(f"Snapshot {published} of {self.partition} is current in {bucket.uri}", soft_wrap=True)
        try:
            for forgotten in self._in(bucket).keep_newest(self.keep):
                console.print(f"Removed from the depot, beyond KEEP={self.keep}: {forgotten}", soft_wrap=True)
        except (DepotError, SnapshotError) as error:  # what was published stays so
            console.print(f"Old snapshots could not be removed: {error}", style="yellow", soft_wrap=True, markup=False)

    def pull(self, console: Console) -> None:
        """Make the depot's current snapshot this host's."""
        bucket = self._given_bucket()
        with audited(self.data, "pull", self.partition, {"depot": bucket.uri}) as what:
            pulled = what["snapshot"] = pull(self.here, bucket, key=self.signing_key, meter=_meter)
        console.print(f"Snapshot {pulled} of {self.partition} from {bucket.uri} is current here", soft_wrap=True)
        try:
            self.here.keep_newest(self.keep)
        except OSError as error:  # what was pulled stays so
            console.print(f"Old snapshots could not be removed: {error}", style="yellow", soft_wrap=True, markup=False)

    def rollback(self, console: Console, to: str | None) -> None:
        """Make the snapshot `to`, or the one before, current again: in the depot if one is given, else here."""
        with audited(self.data, "rollback", self.partition, {"depot": self.depot}) as what:
            if self.depot:
                chosen = self._in(open_bucket(self.depot)).go_back(to)
            else:
                chosen = self.here.go_back(to, self.signing_key)
            what["snapshot"] = chosen
        if not self.depot:
            for other in self.here.ids():
                if other != chosen and not wait_until_free(self.here.snapshot(other), _PATIENCE):
                    told = f"A server here still answers from {other}: its log and /readyz say why."
                    console.print(told, style="yellow", soft_wrap=True)
        console.print(
            f"Snapshot {chosen} of {self.partition} is current again in {self.depot or self.data}", soft_wrap=True
        )

    def table(self) -> Table:
        """List all snapshots of the partition, newest first: those of this host and, if one is given, of the depot."""
        here = {name: self._manifest_here(name) for name in self.here.ids()}
        current, previous = self.here.current(), self.here.previous()
        table = Table(title=f"Snapshots of {self.partition}", title_justify="left")
        for column in ("snapshot", "created", "MiB", "images", "products", "quality", "host", "depot"):
            number = column in ("MiB", "images", "products")
            table.add_column(column, justify="right" if number else "left", no_wrap=column == "snapshot")
        there: dict[str, Manifest | None] = {}
        latest, withdrawn = None, list[str]()
        if self.depot:
            depot = self._in(open_bucket(self.depot))
            there, withdrawn = depot.manifests(), depot.withdrawn(depot.held_latest())
            with suppress(SnapshotError):  # a damaged one is replaced by the next `make publish`
                latest = depot.latest()
        for name in sorted(here | there, reverse=True):
            manifest = here.get(name) or there.get(name)
            host = _standing(name, here, current, previous)
            away = _standing(name, there, *((latest.current, latest.previous) if latest else (None, None)))
            style = "bold" if "current" in (host, away) else None
            table.add_row(
                name,
                *(_figures(manifest) if manifest else ["unreadable", *[""] * 4]),
                host,
                f"{away}, withdrawn" if name in withdrawn else away,
                style=style,
            )
        return table

    def ship(self, console: Console, host: str, ssh: str) -> None:
        """Make this host's current snapshot another host's."""
        with audited(self.data, "ship", self.partition, {"host": host}) as what:
            name = what["snapshot"] = ship(self.here, host, ssh, self.keep, self.signing_key)
        console.print(f"Snapshot {name} of {self.partition} is current in {host}", soft_wrap=True)

    def _in(self, bucket: Bucket) -> DepotPartition:
        return DepotPartition(bucket, self.partition, self.signing_key, self.here)

    def _given_bucket(self) -> Bucket:
        if not self.depot:
            raise ConfigError("No depot is given. Give DEPOT=s3://bucket/prefix or DEPOT=file:///folder.")
        return open_bucket(self.depot)

    def _manifest_here(self, name: str) -> Manifest | None:
        with suppress(OSError, SnapshotError):
            return Manifest.from_json((self.here.snapshot(name) / "manifest.json").read_bytes(), name)
        return None


@contextmanager
def _meter(what: str, total: int) -> Iterator[Advance]:
    with Bar(f"MiB {what}", total / _MIB) as bar:
        yield lambda moved: bar.advance(moved / _MIB)


def _standing(name: str, known: dict[str, Manifest | None], current: str | None, previous: str | None) -> str:
    if name not in known:
        return ""
    return {current: "current", previous: "previous"}.get(name, "there")


def _figures(manifest: Manifest) -> list[str]:
    size = sum(file.bytes for file in manifest.files.values()) / _MIB
    counts = (f"{manifest.count:,}", f"{manifest.products:,}")
    return [manifest.created[:16].replace("T", " "), f"{size:,.1f}", *counts, _quality(manifest)]


def _quality(manifest: Manifest) -> str:
    """The figures that the manifest states, and which parts of the metric were learned."""
    quality = manifest.quality
    figures = {
        "estimate": quality.estimate,
        "estimated_by": quality.estimated_by,
        "coverage": quality.coverage,
        "learned:": str(quality.learned.parts) or None if quality.learned else None,
    }
    return ", ".join(f"{name} {value}" for name, value in figures.items() if value is not None)
