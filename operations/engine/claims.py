"""A host's own note of the places that the house has taken."""

from __future__ import annotations

from collections.abc import Collection, Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation

from operations.engine.announced_changes import differs
from operations.engine.shell import into_place
from plan.engine.claims import CLAIMED
from plan.engine.difference import Change


@operation()
def claimed(places: str, known: Collection[str]) -> Generator[StringCommand, None, None]:
    """Own the note of the places that the house has taken, lines in `places`; `known` are those that it has already.

    The first change on a host, so that whatever lies there afterwards is known to be the house's. A second run costs no
    remote command: the host's profile has the note.
    """
    if set(places.split()) <= set(known):
        host.noop("noted")
        return
    differs(Change(f"file {CLAIMED}", "written", "places are to be taken that it does not have"))
    yield StringCommand(
        f"umask 022; mkdir -p /var/lib/private-ai && cat > {CLAIMED}.new && {into_place(f'{CLAIMED}.new', CLAIMED)}",
        _stdin=places,
    )
