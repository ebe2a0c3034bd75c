"""A run that somebody ends: by Ctrl-C, or as a service is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from typing import Any

from operations.engine.pyinfra_inside import is_planning
from tasks.engine.connection import left_behind

WAYS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def end_at_once(state: Any) -> None:
    """Have Ctrl-C and SIGTERM end the run at once, with status 130 and 143, and with a word about what is left behind.

    pyinfra ends with 0, so that `deploy && verify` would go on, and only after a second Ctrl-C while hosts are at work.
    """
    terminal = _terminal()

    def end(number: int, _: object) -> None:
        # Nothing here may wait, and nothing of Python's may be in the middle of writing: the signal comes at any time.
        with contextlib.suppress(OSError):
            os.write(2, f"\n--> Ended by {WAYS[signal.Signals(number)]}; {ended(state)}\n".encode())
        if terminal:
            # A password may have been asked for, which is not shown while it is typed.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, terminal)
        os._exit(128 + number)

    for number in WAYS:
        signal.signal(number, end)


def ended(state: Any) -> str:
    """What is said of a run that was ended."""
    said = left_behind(state)
    if is_planning(state):
        return said
    return f"{said}. Next: run this again"


def _terminal() -> list[Any] | None:
    try:
        return termios.tcgetattr(0) if sys.stdin and sys.stdin.isatty() else None
    except termios.error:
        return None
