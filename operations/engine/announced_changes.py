"""Operations say what differs before they put it right: to the run's log, and to whoever asks for it while planning."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra import host, state
from pyinfra.api import Host, StringCommand

from operations.engine import pyinfra_inside
from operations.engine.answers import something_changes
from operations.engine.one_run import hold
from operations.engine.run import this_run
from plan.engine.difference import Change


def differs(*changes: Change) -> None:
    """Called by an operation that is going to change something, before its first command. Costs no remote command, but
    for the first one of a run, which holds its hosts. Raises operations.alone.BusyError."""
    if state.is_executing:
        hold()
        something_changes()
        host.log_styled(f"    {'; '.join(change.brief for change in changes)}", fg="yellow")
    else:
        this_run().announced[host.name, pyinfra_inside.operation_of(host)] = changes


def not_yet(reason: str) -> StringCommand:
    """Say why it is not known before the run what an operation will do. The command for it while planning."""
    differs(Change(f"not known before the run: {reason}"))
    return StringCommand(":")


def planned(of: Host) -> Iterable[tuple[str, tuple[Change, ...]]]:
    """Names of the operations that would change a host, in their order, with what each said; none is left out.

    For runs that look for changes while planning.
    """
    for operation in pyinfra_inside.planned_changes(state, of):
        name = pyinfra_inside.names_of(state, operation)[0]
        yield name, this_run().announced.get((of.name, operation), (Change(name, "carried out"),))


def changed() -> bool:
    """Whether this run has changed anything on this host so far; while planning, whether it is going to."""
    return pyinfra_inside.has_changed(state, state.inventory.get_host(host.name))
