"""The end of a run by Ctrl-C, or by SIGTERM, with which services are ended."""

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
    """Make Ctrl-C and SIGTERM end the run at once, with status 130 and 143, and a message about the state of the hosts.

    pyinfra itself would end with status 0, so that `deploy && verify` would go on. While it runs operations, it would
    end only after a second Ctrl-C.
    """
    terminal = _terminal()

    def end(number: int, _: object) -> None:
        # os.write, because the signal can come at any time, also while Python's own output is being written. Nothing
        # here may wait.
        with contextlib.suppress(OSError):
            os.write(2, f"\n--> Ended by {WAYS[signal.Signals(number)]}; {ended(state)}\n".encode())
        if terminal:
            # Perhaps the run was asking for a password, and the terminal does not show what is typed.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, terminal)
        os._exit(128 + number)

    for number in WAYS:
        signal.signal(number, end)


def ended(state: Any) -> str:
    """The message about the state in which the ended run leaves the hosts."""
    said = left_behind(state)
    if is_planning(state):
        return said
    return f"{said}. Next: run this again"


def _terminal() -> list[Any] | None:
    try:
        return termios.tcgetattr(0) if sys.stdin and sys.stdin.isatty() else None
    except termios.error:
        return None
