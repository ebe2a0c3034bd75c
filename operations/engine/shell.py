"""Pieces of shell that several operations use."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

#: What a person does about something that stands where a folder of the house should be.
REMOVE = "Next: see what it is, remove it, and run this again"


def into_place(new: str, path: str) -> str:
    """Rename a finished file over another, after its content is on the disk: whoever reads finds one of the two, whole.

    Both are paths on one file system, quoted for the shell. The brackets have `set -e` see a failure of either.
    """
    return f"(sync -- {new} && mv -fT {new} {path})"


def inside(folder: str) -> str:
    """A piece of shell that goes into a folder for what is sent, and makes it for root alone when it is missing.

    It may lie in the folder of an account, which can put anything of that name in its place, such as a link to
    somewhere else: what is not root's own folder, where it should be, ends the script.
    """
    above, _, name = folder.rpartition("/")
    return (
        f"{{ cd -P {shlex.quote(above or '/')} && {_step(name)} && test -O .; }} || "
        f"{{ echo {shlex.quote(f'{folder} is not a folder of root. {REMOVE}')} >&2; exit 1; }}"
    )


def below(folder: str, names: Sequence[str], owner: str, group: str, mode: str) -> str:
    """A piece of shell that goes into FOLDER/NAME/NAME... and gives each NAME to `owner`; what is missing is made.

    `folder` may belong to an account, which can put anything of these names there, such as a link to a folder of the
    system. What is not a folder where it should be ends the script, before root has made or given away anything behind
    it. What follows uses names in the working folder: behind a longer path there may be something else by then.
    """
    given = f"chown {owner}:{group} . && chmod {mode} ."
    steps = " && ".join(f"{_step(name)} && {given}" for name in names)
    whole = "/".join((folder.rstrip("/"), *names))
    return (
        f"{{ cd -P {shlex.quote(folder)} && {steps}; }} || "
        f"{{ echo {shlex.quote(f'{whole} is not a folder, or lies behind a link. {REMOVE}')} >&2; exit 1; }}"
    )


def _step(name: str) -> str:
    """Go from the working folder into one below it, which is made when it is missing. Through a link it fails.

    Without braces behind a dollar: systemd-run would read them itself.
    """
    it = shlex.quote(name)
    here = 'here=$(pwd -P) && { test "$here" != / || here=; }'
    made = f"{{ test -e ./{it} || mkdir -m 0700 ./{it}; }}"
    return f'{here} && {made} && cd -P ./{it} && test "$(pwd -P)" = "$here"/{it}'
