"""Shows progress: a live table on a terminal, else a line for each stage every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINE_EVERY = 5.0  # seconds between the lines when the output is not a terminal


class Stage:
    """One step in progress. `text`: the latest line about it. `done`, `total`: bytes; `total` is 0 when not known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.done = 0
        self.total = 0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def describe(self) -> str:
        """The progress in words, for example "43% of 1,422 MB", or the last line of a build."""
        if self.total:
            return f"{100 * self.done // self.total}% of {self.total / 1e6:,.1f} MB {self.text}".rstrip()
        if self.done:
            return f"{self.done / 1e6:,.1f} MB {self.text}".rstrip()
        return self.text


class Board:
    """All stages of a run. They may run in several threads. Use the board as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
        self.seconds: dict[str, float] = {}
        self._stages: list[Stage] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._live: Live | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live:
            self._live.stop()
        if self._thread:
            self._thread.join()

    def say(self, text: str) -> None:
        """Prints a line that stays on the terminal."""
        self.console.print(Text(text), soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Shows a stage while the block runs, and its time after the block has succeeded."""
        stage = Stage(name)
        with self._lock:
            self._stages.append(stage)
        try:
            yield stage
        finally:
            with self._lock:
                self._stages.remove(stage)
        self.seconds[name] = stage.seconds
        self.say(f"{name}: done in {stage.seconds:.1f} s")

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            for stage in self._stages:
                table.add_row(
                    stage.name,
                    f"{stage.seconds:5.0f} s",
                    Text(stage.describe(), overflow="ellipsis", no_wrap=True),
                )
        return table

    def _tick(self) -> None:
        while not self._over.wait(LINE_EVERY):
            with self._lock:
                lines = [f"{s.name}: {s.seconds:.0f} s, {s.describe()[:120]}" for s in self._stages]
            for line in lines:
                self.say(line)
