"""Words of a host on people's terminals and pages."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Without characters that command a terminal or are invisible: a host's words are shown, not obeyed."""
    return re.sub(
        r"[^\n\t -~\u00a0-\ud7ff\ue000-\U0010ffff]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", _escaped, text
    )


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
