"""Several questions in one remote command, on which the host works side by side."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import STRANGE

#: A fact and its arguments by name.
Question = tuple[type[FactBase[Any]], tuple[tuple[str, Any], ...]]


def question(fact: type[FactBase[Any]], arguments: Mapping[str, Any]) -> Question:
    """The same for the same arguments, in whatever order they are given. The arguments have to be hashable."""
    return fact, tuple(sorted(arguments.items()))


class Untold(Enum):
    """In the place of an answer: the host did not give one, or none that is understood."""

    UNTOLD = "untold"


UNTOLD = Untold.UNTOLD


class Together(FactBase[tuple[Any, ...]]):
    """The answers to questions, in their order, each as its own fact gives it, or UNTOLD: such a one has to be asked
    alone to hear what is wrong. Cost: one remote command.

    What is printed meets in a folder in memory that the command removes: lines of several would mix in one stream.
    """

    def command(self, questions: tuple[Question, ...]) -> str:
        # Some facts keep from their command what they need for its output.
        self._facts = [fact() for fact, _ in questions]
        # A line that no host can know before.
        self._end = f"end {secrets.token_hex(8)}"
        names = [f"$d/{number}" for number in range(len(questions))]
        # An answer that ends in no line end gets one, and one that does gets an empty line.
        asking = [
            f"{{ (\n{fact.command(**dict(arguments))}\n); printf '\\n{self._end} {number} %s\\n' $?; }} >{name} &"
            for number, (fact, name, (_, arguments)) in enumerate(zip(self._facts, names, questions, strict=True))
        ]
        return "\n".join(
            [
                "d=$(mktemp -d -p /run) || exit 0; trap 'rm -rf \"$d\"' EXIT",
                *asking,
                f"wait; cat {' '.join(names)}",
            ]
        )

    @staticmethod
    def default() -> tuple[Any, ...]:
        return ()

    def process(self, output: list[str]) -> tuple[Any, ...]:
        said: dict[int, list[str]] = {}
        lines: list[str] = []
        for line in output:
            end = re.fullmatch(rf"{self._end} (\d+) (\d+)", line)
            if end is None:
                lines.append(line)
                continue
            if end[2] == "0":
                said[int(end[1])] = lines[:-1] if lines[-1:] == [""] else lines
            lines = []
        return tuple(_answer(fact, said.get(number)) for number, fact in enumerate(self._facts))


def _answer(fact: FactBase[Any], lines: list[str] | None) -> Any:
    if lines is None:
        return UNTOLD
    try:
        return fact.process(lines) if lines else fact.default()
    except (FactProcessError, *STRANGE):
        return UNTOLD
