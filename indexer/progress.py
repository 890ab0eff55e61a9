"""Progress of a long run: a bar with rate and time left on a terminal, a line now and then in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LOG_EVERY = 10.0


class Bar:
    """A bar of progress: `with Bar("images", total) as bar: bar.advance()`."""

    def __init__(self, what: str, total: float) -> None:
        self._what, self._total, self._done = what, total, 0.0
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=total, rate="")

    def __enter__(self) -> "Bar":
        self._started = self._logged = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, by: float = 1) -> None:
        """Count so many more as done."""
        self._done += by
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        self._progress.update(self._task, completed=self._done, rate=f"{rate:,.0f}/s")
        if not self._console.is_terminal and now - self._logged > _LOG_EVERY:
            self._logged = now
            left = (self._total - self._done) / max(rate, 1e-9)
            self._console.print(
                f"{self._what}: {self._done:,.0f} of {self._total:,.0f}, {rate:,.0f}/s, {left:,.0f} s left"
            )
