"""What others say, harmless to a terminal: it is shown, not obeyed."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Text of several lines, in which characters that command a terminal, turn the direction of writing, or that nobody
    sees stand as Python writes them."""
    return "".join(letter if letter in "\n\t" or _shows(letter) else _written(letter) for letter in text)


def line(text: object) -> str:
    """A name or a few words on one line, with a question mark for each such character."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or ""))


def _shows(letter: str) -> bool:
    # Python counts all blanks but the common one among what cannot be printed; French needs two others.
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _written(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
