"""Pieces of shell that several operations use."""

from __future__ import annotations


def into_place(new: str, path: str) -> str:
    """Rename a finished file over another, after its content is on the disk: whoever reads finds one of the two, whole.

    Both are paths on one file system, quoted for the shell. The brackets have `set -e` see a failure of either.
    """
    return f"(sync -- {new} && mv -fT {new} {path})"
