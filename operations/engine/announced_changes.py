"""Before an operation changes something, it says what differs: in the run's log, and, while planning, to `planned`."""

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
    """Each operation that is going to change something calls this before its first command.

    The first call of a run holds the hosts, which costs one remote command for each. All later calls cost none. Raises
    operations.engine.one_run.BusyError.
    """
    if state.is_executing:
        hold()
        something_changes()
        host.log_styled(f"    {'; '.join(change.brief for change in changes)}", fg="yellow")
    else:
        this_run().announced[host.name, pyinfra_inside.operation_of(host)] = changes


def not_yet(reason: str) -> StringCommand:
    """Say why nobody can know before the run what an operation will do. Returns a command that does nothing: it stands
    for the operation while planning."""
    differs(Change(f"not known before the run: {reason}"))
    return StringCommand(":")


def planned(of: Host) -> Iterable[tuple[str, tuple[Change, ...]]]:
    """The names of all operations that would change a host, in their order, each with the changes that it announced.

    For runs that look for changes while planning.
    """
    for operation in pyinfra_inside.planned_changes(state, of):
        name = pyinfra_inside.names_of(state, operation)[0]
        yield name, this_run().announced.get((of.name, operation), (Change(name, "carried out"),))


def changed() -> bool:
    """Whether this run has changed anything on this host so far; while planning, whether it is going to."""
    return pyinfra_inside.has_changed(state, state.inventory.get_host(host.name))
