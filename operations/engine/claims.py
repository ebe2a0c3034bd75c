"""The note on a host that says which places there the house has claimed."""

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
    """Own the note of the places that the house has claimed. `places` has one place a line; `known` are the places that
    are in the note already.

    This is the first change on a host: so everything that is in these places later is known to belong to the house. A
    second run costs no remote command, because the host's profile contains the note.
    """
    if set(places.splitlines()) <= set(known):
        host.noop("the note has all places")
        return
    differs(Change(f"file {CLAIMED}", "written", "the house takes places that it does not list yet"))
    yield StringCommand(
        f"umask 022; mkdir -p /var/lib/private-ai && cat > {CLAIMED}.new && {into_place(f'{CLAIMED}.new', CLAIMED)}",
        _stdin=places,
    )
