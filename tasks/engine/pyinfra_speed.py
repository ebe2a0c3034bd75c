"""Save time that pyinfra spends on things that this project does not need. docs/speed.md shows what each one costs."""

from __future__ import annotations

import atexit
import gc
import sys
from dataclasses import dataclass
from functools import cache
from types import FrameType

from operations.engine.pyinfra_inside import FRAME_INFO, GLOBAL_ARGUMENTS, STACK

#: Python's default, 700, is meant for programs that run long and keep few objects.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


@dataclass(frozen=True)
class Place:
    """The place of a frame of the stack. These are the two fields of inspect's Traceback that pyinfra reads."""

    filename: str
    lineno: int


def frames() -> list[tuple[FrameType]]:
    """The frames of the stack, the latest first, in the form of the list of inspect.stack()."""
    found, frame = [], sys._getframe(1)
    while frame is not None:
        found.append((frame,))
        frame = frame.f_back  # type: ignore[assignment]
    return found


def place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno)


def collect_less() -> None:
    """Make Python's garbage collection rarer. It also skips objects that stay until the end: those that exist now, and
    those that exist when Python exits."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)


def spare() -> None:
    """Make pyinfra compute values that do not change only once, and values that nobody uses not at all."""
    # pyinfra takes the order of operations from line numbers in the stack. For these, inspect also reads the source
    # lines around each frame, which nobody uses, and searches all modules for the frame's file.
    STACK.put(frames)
    FRAME_INFO.put(place)
    # pyinfra computes the types of the arguments again for each operation.
    GLOBAL_ARGUMENTS.put(cache(GLOBAL_ARGUMENTS.now()))
