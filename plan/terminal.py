"""What others say, harmless to a terminal: it is shown, not obeyed."""

from __future__ import annotations

import re

#: Characters that command a terminal, that turn the direction of writing, or that nobody sees; but line ends and tabs.
_COMMANDS = re.compile(r"[^\n\t -~\u00a0-\ud7ff\ue000-\U0010ffff]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def plain(text: str) -> str:
    """Text of several lines, with such characters as Python writes them."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def line(text: object) -> str:
    """A name or a few words on one line, with a question mark for each such character."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or ""))
