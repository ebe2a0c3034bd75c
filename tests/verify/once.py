"""Asks a question only once, also from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class Once(Generic[Seen]):
    """A question that is asked once for each host. The first caller asks; all other callers wait for the answer."""

    def __init__(self, ask: Callable[..., Seen]) -> None:
        self.ask, self.lock = ask, threading.Lock()
        self.answers: dict[tuple[str, ...], Future[Seen]] = {}

    def __call__(self, *of: str) -> Seen:
        with self.lock:
            first = of not in self.answers
            future = self.answers.setdefault(of, Future())
        if first:
            try:
                future.set_result(self.ask(*of))
            except BaseException as error:
                # Every check that needs this answer gets the error.
                future.set_exception(error)
        return future.result()

    def answered(self) -> dict[tuple[str, ...], Seen]:
        """The answers that are there already: arguments of the question -> answer."""
        with self.lock:
            found = dict(self.answers)
        return {of: each.result() for of, each in found.items() if each.done() and not each.exception()}
