"""The end of a restore, when a deployment has followed it."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from operations.devices.nodes import end_at_gateway
from operations.engine.announced_changes import differs
from operations.engine.run_on_host import RemoteError
from plan.backup.places import STAGE
from plan.backup.restoring import RESTORED, Restored
from plan.engine.difference import Change
from plan.house.house import House


@operation()
def ended(
    house: House, note: Restored | None, roles: Sequence[str]
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the absence of RESTORED after a restore: all nodes, browsers and services are those of the settings again.

    A gateway forgets browsers whose node does not exist any more: the backup may have brought them back. A run without
    a restore costs no remote command.
    """
    if note is None:
        host.noop("no restore waits for its end")
        return
    differs(Change(f"the restore of {' and '.join(note.roles)}", "ended"))
    if "gateway" in roles:
        yield FunctionCommand(_forget_browsers, (house, inventory.get_host(house.coordinator.name)), {})
    yield StringCommand(f"rm -rf {STAGE} {RESTORED}")


def _forget_browsers(state: State, host: Host, house: House, coordinator: Host) -> bool:
    try:
        host.log(end_at_gateway(coordinator, house, (), host))
    except RemoteError as error:
        logger.error(
            f"{host.print_prefix}browsers that may be back could not be checked: {error}. Next: run this again"
        )
        return False
    return True
