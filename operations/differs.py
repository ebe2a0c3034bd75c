"""Operations say what differs before they put it right: to the run's log, and to whoever asks for it while planning."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra import host, state
from pyinfra.api import Host, StringCommand

from operations.alone import hold
from operations.asked import something_changes
from plan.difference import Change

#: Of this run's planning: name of a host and hash of an operation -> what differs there.
_SAID: dict[tuple[str, str], tuple[Change, ...]] = {}


def differs(*changes: Change) -> None:
    """Called by an operation that is going to change something, before its first command. Costs no remote command, but
    for the first one of a run, which holds its hosts. Raises operations.alone.BusyError."""
    if state.is_executing:
        hold()
        something_changes()
        host.log_styled(f"    {'; '.join(change.brief for change in changes)}", fg="yellow")
    else:
        _SAID[host.name, str(host.current_op_hash)] = changes


def not_yet(reason: str) -> StringCommand:
    """Say why it is not known before the run what an operation will do. The command for it while planning."""
    differs(Change(f"not known before the run: {reason}"))
    return StringCommand(":")


def planned(of: Host) -> Iterable[tuple[str, tuple[Change, ...]]]:
    """Names of the operations that would change a host, in their order, with what each said; none is left out.

    For runs that look for changes while planning.
    """
    for number in of.op_hash_order:
        if state.ops[of][number].operation_meta.will_change:
            name = min(state.op_meta[number].names)
            yield name, _SAID.get((of.name, number), (Change(name, "carried out"),))


def changed() -> bool:
    """Whether this run has changed anything on this host so far; while planning, whether it is going to."""
    metas = [each.operation_meta for each in state.ops[state.inventory.get_host(host.name)].values()]
    if state.is_executing:
        return any(meta.is_complete() and meta.did_change() for meta in metas)
    return any(meta.will_change for meta in metas)
