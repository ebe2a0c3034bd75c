"""The one way in which wrong input is reported: what, found, accepted, next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str], otherwise: str) -> str:
    """The next step for a word that is none of `known`: the nearest of them, else what `otherwise` says."""
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


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
        super().__init__(f"{setting} is {found!r}; accepted: {accepted}. Next: {next_step}")
