"""What pyinfra spends without need, spared. docs/speed.md shows each of it alone."""

from __future__ import annotations

import atexit
import gc
import sys
from dataclasses import dataclass
from functools import cache
from types import FrameType

from operations.engine.pyinfra_inside import FRAME_INFO, GLOBAL_ARGUMENTS, STACK

#: Python's own number, 700, is for programs that run long and keep little.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


@dataclass(frozen=True)
class Place:
    """Where a frame of the stack is: what pyinfra reads of inspect's Traceback."""

    filename: str
    lineno: int


def frames() -> list[tuple[FrameType]]:
    """The frames of the stack, the latest first, as the first items of inspect's own list."""
    found, frame = [], sys._getframe(1)
    while frame is not None:
        found.append((frame,))
        frame = frame.f_back  # type: ignore[assignment]
    return found


def place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno)


def collect_less() -> None:
    """Have Python look for garbage less often, and not in what stays until the end: all that is loaded by now, and all
    that is left when it exits."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)


def spare() -> None:
    """Have pyinfra work out no more than once, or not at all, what does not change while it runs."""
    # The order of operations comes from line numbers in the stack. With them inspect reads the lines of source around
    # each frame, which nobody looks at, and searches all modules for those of pyinfra's own files.
    STACK.put(frames)
    FRAME_INFO.put(place)
    # The types of an operation's arguments, worked out again for each one.
    GLOBAL_ARGUMENTS.put(cache(GLOBAL_ARGUMENTS.now()))
