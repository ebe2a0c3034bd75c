"""Pieces of shell that several operations use."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

#: The next step when something else is in the place of a folder of the house.
REMOVE = "Next: see what it is, remove it, and run this again"


def into_place(new: str, path: str) -> str:
    """A command that renames a finished file over another, after its content is on the disk. So a program that reads
    the path finds either the old or the new content, and never a part.

    Both are paths on one file system, quoted for the shell. Because of the brackets, `set -e` notices when one of the
    two commands fails.
    """
    return f"(sync -- {new} && mv -fT {new} {path})"


def inside(folder: str) -> str:
    """A piece of shell that changes into a folder for uploads. If the folder is missing, it is made, for root only.

    The folder may be inside the folder of an account. That account could put something else in its place, for example a
    link. So if the path is not a folder that belongs to root, the script ends.
    """
    above, _, name = folder.rpartition("/")
    return (
        f"{{ cd -P {shlex.quote(above or '/')} && {_step(name)} && test -O .; }} || "
        f"{{ echo {shlex.quote(f'{folder} is not a folder of root. {REMOVE}')} >&2; exit 1; }}"
    )


def below(folder: str, names: Sequence[str], owner: str, group: str, mode: str) -> str:
    """A piece of shell that changes into FOLDER/NAME/NAME... and gives each NAME to `owner`. Missing folders are made.

    `folder` may belong to an account. That account could put something else under these names, for example a link to a
    folder of the system. So if a step of the path is not a real folder, the script ends before root makes anything
    behind it, or changes an owner there. The commands that follow must use names in the working folder: the account
    could replace a part of a longer path in the meantime.
    """
    given = f"chown {owner}:{group} . && chmod {mode} ."
    steps = " && ".join(f"{_step(name)} && {given}" for name in names)
    whole = "/".join((folder.rstrip("/"), *names))
    return (
        f"{{ cd -P {shlex.quote(folder)} && {steps}; }} || "
        f"{{ echo {shlex.quote(f'{whole} is not a folder, or lies behind a link. {REMOVE}')} >&2; exit 1; }}"
    )


def _step(name: str) -> str:
    """A command that changes into a folder in the working folder, and makes it if it is missing. If it is a link, the
    command fails.

    It does not contain a dollar sign followed by a brace, because systemd-run would replace that itself.
    """
    it = shlex.quote(name)
    here = 'here=$(pwd -P) && { test "$here" != / || here=; }'
    made = f"{{ test -e ./{it} || mkdir -m 0700 ./{it}; }}"
    return f'{here} && {made} && cd -P ./{it} && test "$(pwd -P)" = "$here"/{it}'
