"""The one way in which wrong input is reported: what, found, accepted, next step."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

#: What reading an answer may raise that has another shape than expected, whoever made it up.
STRANGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)

#: What follows an answer of a host that does not have the form that the house's own programs give it.
AGAIN = "Next: run this again; if it comes again, report it with this line"

#: Characters of a value that an error shows; of a longer one it shows both ends.
MOST = 300


def nearest(word: object, known: Iterable[str], otherwise: str) -> str:
    """The next step for a word that is none of `known`: the nearest of them, else what `otherwise` says."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1) if isinstance(word, str) else []
    return f"did you mean {close[0]!r}?" if close else otherwise


def shown(value: object) -> str:
    """A value as Python writes it, on one line and harmless to a terminal. Letters that are not ASCII also as numbers,
    since some look like ones that are."""
    try:
        text = repr(value)
    except ValueError:
        return "a number with thousands of digits"
    if not text.isascii():
        text = f"{text if text.isprintable() else ''} ({value!a})".strip()
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= MOST else f"{text[: MOST // 2]} ... {text[-MOST // 4 :]}"


def without_secrets(value: Any) -> Any:
    """The value as it may be shown: with dots for a password in it."""
    if isinstance(value, Mapping):
        return {key: "..." if "pass" in str(key) else without_secrets(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([without_secrets(each) for each in value])
    return "..." if isinstance(value, str) and "pass" in value else value


class SettingError(ValueError):
    """A wrong setting or a host that cannot play its part, found before anything has changed.

    `setting` names where the value stands (for example `group_data/all.py: house_domain` or
    `host brain: os`), `found` is the value, `accepted` says what would be right, and `next_step`
    is what the reader does now.
    """

    def __init__(self, setting: str, found: object, accepted: str, next_step: str) -> None:
        self.setting = setting
        self.found = found
        self.accepted = accepted
        self.next_step = next_step
        super().__init__(f"{setting} is {shown(found)}; accepted: {accepted}. Next: {next_step}")

    @property
    def problems(self) -> tuple[SettingError, ...]:
        """All that is wrong, each by itself."""
        return (self,)


class SettingErrors(SettingError):
    """Several of them, told at once. Its parts are those of the first."""

    def __init__(self, problems: Sequence[SettingError]) -> None:
        first = problems[0]
        super().__init__(first.setting, first.found, first.accepted, first.next_step)
        self.args = ("\n    ".join(map(str, problems)),)
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[SettingError, ...]:
        return self._problems


def tried(problems: list[SettingError], otherwise: T, read: Callable[..., T], *given: object) -> T:
    """What `read` makes of what is given. What is wrong is kept among the problems: people are told all at once."""
    try:
        return read(*given)
    except SettingError as error:
        problems += error.problems
        return otherwise


def refuse(problems: Sequence[SettingError]) -> None:
    """Raise SettingError for all problems, if there are any."""
    if problems:
        raise problems[0] if len(problems) == 1 else SettingErrors(problems)
