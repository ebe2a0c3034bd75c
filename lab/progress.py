"""Shows what is being done and how long it took: on a terminal in a line that changes, in a log in plain lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

console = Console(highlight=False, markup=False, emoji=False)

QUIET_SECONDS = 10


@contextmanager
def stage(title: str) -> Iterator[Callable[[str], None]]:
    """Show and time a stage. Call the yielded function with what the stage is doing now. If there is no news, the last
    line is repeated from time to time."""
    begin = time.monotonic()
    told = ""
    news = threading.Event()
    over = threading.Event()

    def seconds() -> str:
        return f"{time.monotonic() - begin:.0f} s"

    def tell(text: str) -> None:
        nonlocal told
        told = text
        news.set()
        show(f"  {text} ({seconds()})")

    def show(line: str) -> None:
        if console.is_terminal:
            status.update(Text(f"{title}{line}"))
        else:
            console.print(line, soft_wrap=True)

    def repeat() -> None:
        # On a terminal the seconds are counted. In a log, a line from time to time shows that the program still works.
        while not over.is_set():
            if not news.wait(1 if console.is_terminal else QUIET_SECONDS) and not over.is_set():
                show(f"  {told} ({seconds()})" if told else f"  ({seconds()})")
            news.clear()

    if not console.is_terminal:
        console.print(f"{title} ...", soft_wrap=True)
    clock = threading.Thread(target=repeat, daemon=True)
    status = console.status(Text(title))
    with status:
        clock.start()
        try:
            yield tell
        finally:
            over.set()
            news.set()
            clock.join()
    console.print(f"{title}: {time.monotonic() - begin:.1f} s", soft_wrap=True)
