"""Snapshots between this host, a depot and other hosts, as the commands do it."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from indexer.progress import Bar
from shared.depot import depot
from shared.depot.pull import pull
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.partition import Partition
from shared.snapshot import directory as snapshot
from shared.snapshot.lease import wait_until_free
from shared.snapshot.manifest import Manifest
from shared.snapshot.verify import verify
from shared.storage.buckets import Advance, open_bucket
from shared.storage.files import mark

_MIB = 1024 * 1024
# How long going back waits for the servers of this host to do so.
_PATIENCE = 30.0
# What runs on the host once its files are there: check, one rename, then CURRENT, then remove old ones. `$1` is the
# partition's folder, `$2` the snapshot's id, `$3` how many are kept; the checksums come on standard input. A snapshot
# that is there already, but damaged, is mended file by file; one that a server holds a lease on is not removed.
_ACCEPT = """set -eu
exec >&2
cd "$1"
waiting=".shipping/$2"
cat > "$waiting.sums"
check() { (cd "$1" && sha256sum --check --strict --quiet "$OLDPWD/$waiting.sums"); }
check "$waiting"
sync "$waiting"/* "$waiting"
if [ ! -d "$2" ]; then mv "$waiting" "$2"; elif ! check "$2"; then mv "$waiting"/* "$2"; fi
was=$(cat CURRENT || true)
if [ "$was" != "$2" ]; then
    if [ -n "$was" ]; then echo "$was" > "$waiting.was"; mv "$waiting.was" PREVIOUS; fi
    echo "$2" > "$waiting.now"
    sync "$waiting.now" .
    mv "$waiting.now" CURRENT
    sync .
fi
rm -rf "$waiting" "$waiting.sums"
rmdir .shipping || true
ls -d 2???????T??????Z-* | sort -r | tail -n "+$(($3 + 1))" | while read -r old; do
    case "$old" in "$(cat CURRENT)" | "$(cat PREVIOUS || true)") continue ;; esac
    flock --nonblock "$old/manifest.json" rm -rf "$old" || true
done
"""


@dataclass(frozen=True, slots=True)
class Shipping:
    """Whose snapshots move, where they lie here, and the depot if one is given."""

    partition: Partition
    data: Path
    depot: str | None = None
    keep: int = 5
    signing_key: str | None = field(default=None, repr=False)

    def publish(self, console: Console) -> None:
        """This host's current snapshot -> the depot's."""
        bucket = open_bucket(self._given_depot())
        published = depot.publish(self.data, self.partition, bucket, key=self.signing_key, meter=_meter)
        console.print(f"Snapshot {published} of {self.partition} is current in {bucket.uri}", soft_wrap=True)
        try:
            for forgotten in depot.keep_newest(bucket, self.partition, self.keep):
                console.print(f"Removed from the depot, beyond KEEP={self.keep}: {forgotten}", soft_wrap=True)
        except (DepotError, SnapshotError) as error:  # what was published stays so
            console.print(f"Old snapshots could not be removed: {error}", style="yellow", soft_wrap=True, markup=False)

    def pull(self, console: Console) -> None:
        """The depot's current snapshot -> this host's."""
        bucket = open_bucket(self._given_depot())
        pulled = pull(self.data, self.partition, bucket, key=self.signing_key, meter=_meter)
        console.print(f"Snapshot {pulled} of {self.partition} from {bucket.uri} is current here", soft_wrap=True)
        try:
            snapshot.keep_newest(self.data, self.partition, self.keep)
        except OSError as error:  # what was pulled stays so
            console.print(f"Old snapshots could not be removed: {error}", style="yellow", soft_wrap=True, markup=False)

    def rollback(self, console: Console, to: str | None) -> None:
        """The snapshot `to`, or the one before, becomes current again: in the depot if one is given, else here."""
        if self.depot:
            where = self.depot
            chosen = depot.go_back(open_bucket(where), self.partition, to, self.signing_key)
        else:
            where = f"{self.data}"
            chosen = snapshot.go_back(self.data, self.partition, to, self.signing_key)
            for other in snapshot.snapshot_ids(self.data, self.partition):
                if other != chosen and not wait_until_free(self.partition.folder(self.data) / other, _PATIENCE):
                    told = f"A server here still answers from {other}: its log and /readyz say why."
                    console.print(told, style="yellow", soft_wrap=True)
        console.print(f"Snapshot {chosen} of {self.partition} is current again in {where}", soft_wrap=True)

    def table(self) -> Table:
        """All snapshots of the partition, newest first: those of this host and, if one is given, of the depot."""
        here = {name: self._manifest_here(name) for name in snapshot.snapshot_ids(self.data, self.partition)}
        current, previous = (look(self.data, self.partition) for look in (snapshot.current_id, snapshot.previous_id))
        table = Table(title=f"Snapshots of {self.partition}", title_justify="left")
        for column in ("snapshot", "created", "MiB", "images", "products", "quality", "host", "depot"):
            number = column in ("MiB", "images", "products")
            table.add_column(column, justify="right" if number else "left", no_wrap=column == "snapshot")
        there: dict[str, Manifest | None] = {}
        latest, withdrawn = None, set[str]()
        if self.depot:
            bucket = open_bucket(self.depot)
            there, withdrawn = depot.manifests(bucket, self.partition), depot.withdrawn(bucket, self.partition)
            with suppress(SnapshotError):  # a damaged one is replaced by the next `make publish`
                latest = depot.latest(bucket, self.partition)
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
        """This host's current snapshot -> another host's data folder, over rsync and ssh; CURRENT last."""
        found = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.@-]*):(/.*)", host)
        if not found:
            raise ConfigError(f"The host {host!r} is not a place: give HOST=user@host:/folder.")
        login, root = found.groups()
        name = snapshot.current_id(self.data, self.partition) or ""
        if not snapshot.is_id(name):
            raise SnapshotError(
                f"There is no snapshot of {self.partition} in {self.data} to ship. Make one: make index."
            )
        folder = self.partition.folder(self.data) / name
        verify(folder, self.signing_key, self.partition)
        target = str(self.partition.folder(Path(root)))
        waiting = f"{target}/.shipping/{name}"
        _run([*shlex.split(ssh), login, f"mkdir -p {shlex.quote(waiting)}"])
        progress = ["--info=progress2"] if sys.stdout.isatty() else []
        options = ["--recursive", "--times", "--delete", "--partial-dir=.partial", "--protect-args", *progress]
        try:
            _run(["rsync", *options, f"--rsh={ssh}", f"{folder}/", f"{login}:{waiting}/"])
        except DepotError as error:
            if "status 11" not in str(error):
                raise  # the next try goes on with what is there
            _run([*shlex.split(ssh), login, f"rm -rf {shlex.quote(waiting)}"])
            raise DepotError(f"The files cannot be written to {host}. Is its disk full? {error}") from error
        sums = "".join(f"{mark(path).sha256}  {path.name}\n" for path in sorted(folder.iterdir()))
        accept = f"sh -c {shlex.quote(_ACCEPT)} accept {shlex.quote(target)} {shlex.quote(name)} {self.keep}"
        _run([*shlex.split(ssh), login, accept], sums)
        console.print(f"Snapshot {name} of {self.partition} is current in {host}", soft_wrap=True)

    def _given_depot(self) -> str:
        if not self.depot:
            raise ConfigError("No depot is given. Give DEPOT=s3://bucket/prefix or DEPOT=file:///folder.")
        return self.depot

    def _manifest_here(self, name: str) -> Manifest | None:
        with suppress(OSError, SnapshotError):
            return Manifest.from_json((self.partition.folder(self.data) / name / "manifest.json").read_bytes(), name)
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


def _run(command: list[str], sent: str = "") -> None:
    if shutil.which(command[0]) is None:
        raise ConfigError(f"{command[0]} is not installed on this host.")
    done = subprocess.run(command, input=sent, text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()[-40:])
        raise DepotError(f"{command[0]} failed with status {done.returncode}: {reason or 'no reason given'}")
