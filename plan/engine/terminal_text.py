"""Makes text from outside harmless to a terminal: the terminal shows control characters and does not obey them."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Text of several lines. Characters that control a terminal, change the direction of writing or are invisible are
    replaced by their escape sequences in Python."""
    return "".join(letter if letter in "\n\t" or _shows(letter) else _written(letter) for letter in text)


def line(text: object) -> str:
    """A name or a few words on one line. Each character that cannot be printed becomes a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or ""))


def _shows(letter: str) -> bool:
    # For Python, all spaces except the usual one cannot be printed. French text uses two of the others.
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _written(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
