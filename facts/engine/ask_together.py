"""Puts several questions into one remote command. The host answers them in parallel."""

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
    """A question. The order of the arguments makes no difference. The arguments have to be hashable."""
    return fact, tuple(sorted(arguments.items()))


class Untold(Enum):
    """Stands in place of an answer when the host gave none, or one that cannot be read."""

    UNTOLD = "untold"


UNTOLD = Untold.UNTOLD


class Together(FactBase[tuple[Any, ...]]):
    """The answers to questions, in their order. Each answer is that of its own fact, or UNTOLD. To learn why an answer
    is UNTOLD, ask that question alone. Cost: one remote command.

    The host writes each answer into a file of its own, because lines of parallel commands would mix in one stream. The
    files are in a folder in memory, which the command removes.
    """

    def command(self, questions: tuple[Question, ...]) -> str:
        # Keep the objects: some facts remember in `command` what they need in `process`.
        self._facts = [fact() for fact, _ in questions]
        # A line that no host can know beforehand, so that no output can imitate it.
        self._end = f"end {secrets.token_hex(8)}"
        names = [f"$d/{number}" for number in range(len(questions))]
        # The line break before the end line is for answers that end without one. All other answers get an empty line,
        # which `process` removes.
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
