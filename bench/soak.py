"""A soak: `make soak` serves under mixed load, while snapshots are swapped, workers are killed and images fail to come.

It promises that no good request fails, that swaps are seen and killed workers replaced, and that no process grows.
"""

import csv
import http.client
import http.server
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread

import click

from bench.process import ROOT, children, resident_alone
from bench.server import ask, connected, served
from bench.traffic import Goods, Outcome, Request, Tally, ask_until, be_slow, send_malformed
from indexer.demo.drawn_shop import draw_shop
from shared.command_line import run
from shared.depot.depot import DepotPartition
from shared.depot.publish import publish
from shared.errors import RunStopped, SimilarityError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import Manifest, content_name
from shared.snapshot.reader import Snapshot
from shared.storage.buckets import open_bucket
from shared.storage.files import replace_atomically

WORKERS, CLIENTS, SLOW = 2, 6, 30
PARTITIONS = Partition("371", "0341"), Partition("372", "0341")
_KEY = "the key of the soak"
_SETTLED, _WINDOW, _MOST_GROWTH = 180.0, 60.0, 1.05  # seconds, seconds, and the share of the memory at minute 3
_SEEN, _REPLACED = 60.0, 60.0  # seconds until a swap is seen, and a killed worker replaced
_KEPT = 3  # snapshots


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds between two swaps, two kills, two moods of the image server, and two lines."""

    swap: float = 6.0
    kill: float = 45.0
    mood: float = 7.0
    line: float = 30.0


@dataclass(slots=True)
class Soak:
    """A soak under way. `publisher` has a snapshot of each partition; the server's data and its depot are beside it in
    `work`. `memory`: of each process, by what it is called, the time and its MB, again and again."""

    publisher: Path
    work: Path
    photos: Sequence[bytes]
    rhythm: Rhythm = Rhythm()
    tally: Tally = field(default_factory=Tally)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    swaps: int = 0
    kills: int = 0
    broken: list[str] = field(default_factory=list)
    _stop: Event = field(default_factory=Event)

    def run(self, seconds: float, say: Callable[[str], object] = print) -> None:
        """Serve and ask for so long; then `broken` names the promises that were not kept."""
        self._publish_all()
        with _images(self.photos, self.rhythm.mood) as images:
            depot = (self.work / "depot").as_uri()
            options = {"SIMILARITY_DEPOT": depot, "SIMILARITY_ADMIN_KEY": _KEY, "SIMILARITY_KEEP": str(_KEPT)}
            options |= {"SIMILARITY_IMAGE_URL": f"{images}/{{id}}.jpg", "SIMILARITY_RATE": "1000000000/hour"}
            log = self.work / "serve.log"
            with served(self.work / "host", WORKERS, "/readyz", options=options, log=log) as server:
                self._ask(server.port, server.pid, seconds, say)
        self.judge(seconds)

    def table(self) -> str:
        """The requests by kind, and the memory by process, as Markdown."""
        lines = [f"| requests | {' | '.join(Outcome)} | slowest, s |", "|---|---|---|---|---|---|"]
        for kind, counts in sorted(self.tally.counts.items()):
            figures = " | ".join(f"{counts[outcome]:,}" for outcome in Outcome)
            lines.append(f"| {kind} | {figures} | {self.tally.slowest[kind]:.1f} |")
        lines += ["", "| process | from, s | to, s | MB at minute 3 | MB at the end |", "|---|---|---|---|---|"]
        for name, seen in self.memory.items():
            settled, end = _settled(seen)
            shown = f"{settled:,.1f} | {end:,.1f}" if settled else f"- | {seen[-1][1]:,.1f}"
            lines.append(f"| {name} | {seen[0][0]:,.0f} | {seen[-1][0]:,.0f} | {shown} |")
        return "\n".join([*lines, "", f"{self.swaps} swaps, {self.kills} workers killed."])

    def _ask(self, port: int, master: int, seconds: float, say: Callable[[str], object]) -> None:
        known = {each: _ids(Snapshot.current(self.publisher, each)) for each in PARTITIONS}
        goods, dice, tally = Goods(known, self.photos, _KEY), random.Random(0), self.tally

        def client(made: Callable[[random.Random], Request], pause: float = 0.0) -> Thread:
            own = random.Random(dice.random())
            return Thread(target=ask_until, args=(self._stop, port, lambda: made(own), _KEY, tally, pause))

        threads = [client(goods.request) for _ in range(CLIENTS)] + [
            client(goods.by_address, 0.5),
            client(goods.bad, 0.2),
        ]
        threads.append(Thread(target=send_malformed, args=(self._stop, port, random.Random(1), tally)))
        threads.append(Thread(target=be_slow, args=(self._stop, port, SLOW)))
        threads += [Thread(target=self._swap, args=(port,)), Thread(target=self._kill, args=(port, master))]
        start = line = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while (now := time.monotonic()) < start + seconds:
                self._look(master, now - start)
                if now >= line + self.rhythm.line:
                    line = now
                    say(self._line(now - start))
                time.sleep(min(2.0, seconds / 10))
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _line(self, passed: float) -> str:
        counts = ", ".join(f"{self.tally.total(outcome):,} {outcome}" for outcome in Outcome)
        memory = ", ".join(
            f"{name} {seen[-1][1]:.0f}" for name, seen in self.memory.items() if seen[-1][0] > passed - 10
        )
        said = f"{passed:5.0f} s: {counts}; {self.swaps} swaps, {self.kills} kills"
        return f"{said}; MB: {memory}"

    def _look(self, master: int, passed: float) -> None:
        """Note the memory of every process."""
        for pid in (master, *children(master)):
            with suppress(OSError, StopIteration):  # it ends at this moment
                name = "master" if pid == master else f"worker {pid}"
                self.memory.setdefault(name, []).append((passed, resident_alone(pid)))

    def _swap(self, port: int) -> None:
        """Publish a new snapshot of one partition after another, and wait until it serves."""
        number = 0
        while not self._stop.wait(self.rhythm.swap):
            number += 1
            partition = PARTITIONS[number % len(PARTITIONS)]
            try:
                wanted = self._publish(partition)
            except (SimilarityError, OSError) as error:
                self.broken.append(f"A snapshot could not be published: {error}")
                continue
            if self._until(partial(_serves, port, wanted), _SEEN):
                self.swaps += 1
            elif not self._stop.is_set():
                self.broken.append(f"The snapshot {wanted} did not serve within {_SEEN:.0f} seconds.")

    def _kill(self, port: int, master: int) -> None:
        """Kill the youngest worker, and wait for the next one. So one lives all the time, and its memory is seen."""
        while not self._stop.wait(self.rhythm.kill):
            workers = sorted(children(master), key=_started)
            self.tally.killed = time.monotonic()
            os.kill(workers[-1], signal.SIGKILL)
            self.tally.killed = time.monotonic()
            self.kills += 1
            if not self._until(partial(_replaced, port, master, workers[-1]), _REPLACED) and not self._stop.is_set():
                why = _got(port, "/readyz")[1][:300]
                self.broken.append(f"A killed worker was not replaced within {_REPLACED:.0f} seconds: {why!r}")

    def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or self._stop.wait(0.2):
                return False
        return True

    def _publish_all(self) -> None:
        (self.work / "depot").mkdir(parents=True, exist_ok=True)
        (self.work / "host").mkdir(exist_ok=True)
        for partition in PARTITIONS:
            self._publish(partition)

    def _publish(self, partition: Partition) -> str:
        """Publish a snapshot like the current one, made now."""
        here, bucket = PartitionFolder(self.publisher, partition), open_bucket((self.work / "depot").as_uri())
        with here.exclusive():
            snapshot_id = _renewed(here)
        publish(here, bucket)
        DepotPartition(bucket, partition).keep_newest(_KEPT)
        here.keep_newest(_KEPT)
        return snapshot_id

    def judge(self, seconds: float) -> None:
        """Add the promises that a soak of so many seconds did not keep to `broken`."""
        if failed := self.tally.total(Outcome.FAILED):
            self.broken.append(f"{failed} requests failed, such as: {'; '.join(self.tally.failures[:5])}")
        for name, seen in self.memory.items():
            settled, end = _settled(seen)
            if settled and end > _MOST_GROWTH * settled:
                self.broken.append(f"The {name} grew from {settled:.1f} MB to {end:.1f}.")
        for what, count, often in (("swapped", self.swaps, self.rhythm.swap), ("killed", self.kills, self.rhythm.kill)):
            if not count and seconds > 3 * often:
                self.broken.append(f"Nothing was {what}.")


def _settled(seen: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The median MB around minute 3, and in the last minute; zeros for a process that did not live through both."""
    end = seen[-1][0]
    first = [memory for at, memory in seen if abs(at - _SETTLED) <= _WINDOW / 2]
    last = [memory for at, memory in seen if at > end - _WINDOW]
    if not first or end < _SETTLED + 2 * _WINDOW or seen[0][0] > _SETTLED - _WINDOW:
        return 0.0, 0.0
    return median(first), median(last)


def _renewed(here: PartitionFolder) -> str:
    """Make a snapshot with the files of the current one the current one; return its id."""
    old, new = here.snapshot(), here.writing
    new.mkdir(parents=True)
    for path in old.iterdir():
        if path.name != "manifest.json":
            os.link(path, new / path.name)
    now = datetime.now(UTC)
    manifest = Manifest.from_json((old / "manifest.json").read_bytes(), old.name)
    content = replace(manifest, created=now.isoformat(timespec="microseconds")).to_json()
    replace_atomically(new / "manifest.json", content)
    snapshot_id = f"{now:%Y%m%dT%H%M%SZ}-{content_name(content)}"
    with closing(here.add(new, snapshot_id)):
        here.activate(snapshot_id)
    return snapshot_id


def _ids(snapshot: Snapshot) -> list[str]:
    return [snapshot.products.image(row).product_id for row in snapshot.products.starts[:-1].tolist()]


def _started(pid: int) -> int:
    """The time at which a process started, in ticks."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def _replaced(port: int, master: int, gone: int) -> bool:
    """Tell whether there is another worker in place of one that was killed, and all are ready."""
    workers = children(master)
    return gone not in workers and len(workers) == WORKERS and _got(port, "/readyz")[0] == 200


def _serves(port: int, snapshot_id: str) -> bool:
    return snapshot_id.encode() in _got(port, "/v1/indexes")[1]


def _got(port: int, path: str) -> tuple[int, bytes]:
    """The status and body of an answer; 0 where there is none."""
    with suppress(OSError, http.client.HTTPException), connected(port) as connection:
        return ask(connection, path)
    return 0, b""


@contextmanager
def _images(photos: Sequence[bytes], mood_seconds: float) -> Iterator[str]:
    """An image server whose mood changes: it serves, stalls, fails, hangs up, and serves again."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            mood = int(time.monotonic() / mood_seconds) % 6
            if mood == 1:
                time.sleep(6)  # longer than a server waits
            elif mood == 3:
                self.send_error(500)
            elif mood != 4:
                photo = photos[hash(self.path) % len(photos)]
                self.send_response(200)
                self.send_header("Content-Length", str(len(photo)))
                self.end_headers()
                self.wfile.write(photo[: len(photo) // 2] if mood == 5 else photo)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@click.command()
@click.option("--minutes", envvar="MINUTES", default=20.0, show_default=True, help="So long.")
@click.option("--data", envvar="SIMILARITY_DATA", default="data", type=click.Path(path_type=Path, resolve_path=True))
def main(minutes: float, data: Path) -> None:
    """Serve the drawn shop under load while everything changes, and tell what broke."""
    shop, publisher = data / "sample", data / "soak" / "publisher"
    if not (shop / "photos.csv").exists():  # written last
        draw_shop(shop)
    for partition, limit in zip(PARTITIONS, ([], ["--limit", "400"]), strict=True):
        command = [sys.executable, "-m", "indexer", "index", "--data", str(publisher), *limit]
        command += ["--catalog", str(shop / "catalog.csv.gz"), "--image-url", f"file://{shop}/images/{{id}}.jpg"]
        command += ["--department", partition.department, "--domain", partition.domain]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise RunStopped("make index failed, and says why above.")
    with (shop / "photos.csv").open(newline="", encoding="utf-8") as file:
        photos = [(shop / row["path"]).read_bytes() for row in csv.DictReader(file, delimiter=";")]
    with tempfile.TemporaryDirectory(dir=data / "soak") as work:
        soak = Soak(publisher, Path(work), photos)
        soak.run(60 * minutes, lambda line: click.echo(line))
        log = (Path(work) / "serve.log").replace(data / "soak" / "serve.log")
    click.echo(f"\n{soak.table()}\nThe server's log: {log}")
    if soak.broken:
        raise RunStopped("The soak broke what is promised.\n- " + "\n- ".join(soak.broken))


if __name__ == "__main__":
    run(main, "bench.soak")
