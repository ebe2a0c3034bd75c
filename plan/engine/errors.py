"""The error for wrong input. It names the input, the value found, what is accepted, and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

#: The exceptions that parsing raises when an answer does not have the expected form.
STRANGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)

#: Added to the error when a host's answer does not have the form that our own programs write.
AGAIN = "Next: run this again; if it comes again, report it with this line"

#: The most characters of a value that an error shows. Of a longer value it shows the beginning and the end.
MOST = 300


def nearest(word: object, known: Iterable[str], otherwise: str) -> str:
    """The next step for a word that is not in `known`: it names the most similar known word. If none is similar, the
    next step is `otherwise`."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1) if isinstance(word, str) else []
    return f"did you mean {close[0]!r}?" if close else otherwise


def shown(value: object) -> str:
    """A value as Python writes it, on one line and harmless to a terminal. Letters outside ASCII are also written as
    numbers, because some look like ASCII letters."""
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
    """The value with dots in place of passwords, so that a message may show it."""
    if isinstance(value, Mapping):
        return {key: "..." if "pass" in str(key) else without_secrets(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([without_secrets(each) for each in value])
    return "..." if isinstance(value, str) and "pass" in value else value


class SettingError(ValueError):
    """A wrong setting, or a host that does not fit its roles. It is raised before a run has changed anything.

    `setting` names the place of the value (for example `group_data/all.py: house_domain` or `host brain: os`), `found`
    is the value, `accepted` says which values are right, and `next_step` says what the reader does now.
    """

    def __init__(self, setting: str, found: object, accepted: str, next_step: str) -> None:
        self.setting = setting
        self.found = found
        self.accepted = accepted
        self.next_step = next_step
        super().__init__(f"{setting} is {shown(found)}; accepted: {accepted}. Next: {next_step}")

    @property
    def problems(self) -> tuple[SettingError, ...]:
        """The single errors of which this one consists."""
        return (self,)


class SettingErrors(SettingError):
    """Several errors in one message. `setting`, `found`, `accepted` and `next_step` are those of the first."""

    def __init__(self, problems: Sequence[SettingError]) -> None:
        first = problems[0]
        super().__init__(first.setting, first.found, first.accepted, first.next_step)
        self.args = ("\n    ".join(map(str, problems)),)
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[SettingError, ...]:
        return self._problems


def tried(problems: list[SettingError], otherwise: T, read: Callable[..., T], *given: object) -> T:
    """The result of `read(*given)`. If it raises SettingError, adds the errors to `problems` and returns `otherwise`,
    so that people get all errors at once."""
    try:
        return read(*given)
    except SettingError as error:
        problems += error.problems
        return otherwise


def refuse(problems: Sequence[SettingError]) -> None:
    """Raise SettingError for all problems, if there are any."""
    if problems:
        raise problems[0] if len(problems) == 1 else SettingErrors(problems)
