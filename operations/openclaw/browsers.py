"""The browsers that OpenClaw's gateways know: list them, and revoke their approval."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra import inventory
from pyinfra.api import Host

from facts.engine.component_state import through_manager
from operations.engine.run_on_host import RemoteError, run_on
from plan.house.house import House
from plan.openclaw.browsers import Pairing, parse_pairings
from plan.openclaw.configuration import ACCOUNT

#: OpenClaw's own command for browsers. OpenClaw calls them devices.
CLI = through_manager(ACCOUNT, "podman exec openclaw openclaw devices {}")


def pairings(gateway: Host) -> tuple[Pairing, ...]:
    """The browsers that a gateway knows. Costs one remote command of some seconds. Raises RemoteError."""
    said = run_on(gateway, CLI.format("list --json"))
    try:
        return parse_pairings(said, gateway.name)
    except ValueError as error:
        raise RemoteError(f"{gateway.name}: {error}") from error


def all_pairings(house: House) -> tuple[tuple[Pairing, ...], str]:
    """The browsers that the house's gateways know; and, in words, which gateways did not answer, "" when all did."""
    found, untold = list[Pairing](), list[str]()
    for member in house.gateways:
        try:
            found += pairings(inventory.get_host(member.name))
        except RemoteError as error:
            untold.append(str(error))
    return tuple(found), "; ".join(untold)


def revoke(gateway: Host, found: Iterable[Pairing]) -> None:
    """Revoke the approval of these browsers, and reject those that wait for approval. Raises RemoteError."""
    odd = []
    for each in found:
        if each.nameable:
            run_on(gateway, CLI.format(f"{'reject' if each.waits else 'remove'} {each.id} --json"))
        else:
            odd.append(each.shown_id)
    if odd:
        raise RemoteError(f"{gateway.name}: OpenClaw lists browsers with IDs that no browser has: {', '.join(odd)}")
