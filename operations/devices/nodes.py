"""The nodes of the VPN, and the removal of a device."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
from pyinfra import host, inventory, logger, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from facts.headscale import Headscale, HeadscaleState
from facts.tailscale import Tailscale
from operations.engine.announced_changes import differs, not_yet
from operations.engine.answers import ask
from operations.engine.one_run import hold
from operations.engine.run_on_host import RemoteError, run_on
from operations.engine.shell import into_place
from operations.openclaw.browsers import pairings, revoke
from plan.devices.vpn_nodes import RECORD, Record, Standing, Tidy, leaving, record_text, standing, tidy
from plan.engine.difference import Change
from plan.house.house import House
from plan.openclaw.browsers import orphans
from plan.tailscale.client_versions import client_versions

#: The folder of the pages on the controller. Git ignores it, because pages contain secrets.
PAGES = Path(__file__).parent.parent.parent / "enrolment"
#: The number of nodes that are removed at the same time.
AT_ONCE = 8
#: For so many seconds the script waits until the gateway's tailscaled knows that a node was removed.
LEARN_SECONDS = 20


def who_is_who(house: House, known: HeadscaleState) -> Standing:
    """Which node is which host or device. If names alone do not say it, hosts of this run are asked for their
    addresses."""
    found = standing(house, known.nodes, known.record)
    own = {}
    for member in house.members:
        here = inventory.get_host(member.name)
        if any(member.name in (node.name, node.given_name) for node in found.unsure) and state.is_host_in_limit(here):
            seen = here.get_fact(Tailscale)
            if seen.joined:
                own[member.name] = seen.addresses
    return standing(house, known.nodes, known.record, own) if own else found


def untidy(house: House, known: HeadscaleState) -> Tidy:
    """The changes that the operation `nodes` would make now."""
    return tidy(house, who_is_who(house, known), known.keys, known.record, datetime.now(UTC))


@operation()
def nodes(house: House) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the set of nodes of the VPN: hosts of the inventory and designated devices, each under its own name.

    All other nodes are removed. Hosts outside --limit are left alone. Keys that were not made for a designated device
    are expired: when this operation runs, all hosts have used their keys.
    """
    known = ask(host, Headscale)
    if not known.answers and not state.is_executing:
        yield not_yet("Headscale does not answer")
        return
    wanted = untidy(house, known)
    if not wanted:
        host.noop("every node is a host or a designated device")
        return
    differs(*map(Change, wanted.announced or ["the record of devices forgets those that left"]))
    yield StringCommand(tidy_script(wanted))
    if wanted.remove:
        for gateway in house.gateways:
            yield FunctionCommand(_out_at_gateway, (house, wanted.addresses, inventory.get_host(gateway.name)), {})


def tidy_script(wanted: Tidy) -> str:
    """A script that expires keys, removes nodes, renames nodes, then writes the record. After an interruption, each
    step can be repeated."""
    lines = expire_lines(wanted.expire)
    if wanted.remove:
        numbers = " ".join(str(each.node.id) for each in wanted.remove)
        # Headscale needs a second for each node, and can remove several at the same time.
        delete = f"xargs -P {AT_ONCE} -I NUMBER headscale nodes delete --identifier NUMBER --force"
        lines.append(f"printf '%s\\n' {numbers} | {delete} >/dev/null")
    lines += [
        f"headscale nodes rename --identifier {number} {shlex.quote(name)} >/dev/null"
        for number, name in wanted.rename.items()
    ]
    if wanted.record is not None:
        lines.append(record_script(wanted.record))
    return "\n".join(["set -e", *lines])


def expire_lines(keys: Iterable[int]) -> list[str]:
    """Commands that expire these keys, so that nobody can join with them any more."""
    return [f"headscale preauthkeys expire --id {key} >/dev/null" for key in sorted(keys)]


def record_script(record: Record) -> str:
    """A script that writes the record to a new file, and renames it over the old one."""
    place = into_place(f"{RECORD}.new", RECORD)
    return f"(umask 077; printf %s {shlex.quote(record_text(record))} > {RECORD}.new); {place}"


@operation()
def removed(house: House, device: str) -> Generator[FunctionCommand, None, None]:
    """Own the absence of a device: no node, no key, no browser pairing, no open connection at a gateway, no page.

    If a gateway cannot be reached, the device is still removed from the VPN. The operation then fails, so that somebody
    runs it again. The next run finds the pairings of a removed device by their address, which no node has any more.
    """
    known = host.get_fact(Headscale)
    wanted = leaving(device, known.nodes, known.keys, known.record, datetime.now(UTC))
    # At every gateway: if the device is no longer in the settings, its owner is not known.
    gateways = [inventory.get_host(each.name) for each in house.gateways]
    hold()
    yield FunctionCommand(_remove, (house, device, wanted, gateways), {})


def _remove(state: State, host: Host, house: House, name: str, wanted: Tidy, gateways: Collection[Host]) -> bool:
    begun, failed = time.monotonic(), list[RemoteError]()
    try:
        run_on(host, tidy_script(wanted))
        (PAGES / f"{name}.html").unlink(missing_ok=True)
        click.echo(f"\n    {name}: removed from the VPN after {time.monotonic() - begun:.1f} s", err=True)
    except RemoteError as error:
        failed.append(error)
        gateways = ()
    for gateway in gateways:
        try:
            said = end_at_gateway(host, house, wanted.addresses, gateway)
            click.echo(f"    {said}, after {time.monotonic() - begun:.1f} s", err=True)
        except RemoteError as error:
            failed.append(error)
    if failed:
        said = "; ".join(map(str, failed))
        logger.error(f"{host.print_prefix}{name} is not removed everywhere: {said}. Next: run this again")
        return False
    click.echo(f"    Next: remove {name} from headscale_devices in group_data/all.py\n", err=True)
    return True


def _out_at_gateway(state: State, host: Host, house: House, addresses: Collection[str], gateway: Host) -> bool:
    try:
        host.log(end_at_gateway(host, house, addresses, gateway))
    except RemoteError as error:
        # Only a warning: the nodes were removed, so these devices cannot reach the gateway any more.
        logger.warning(f"{host.print_prefix}browser pairings at {gateway.name} could not be checked: {error}")
    return True


def end_at_gateway(coordinator: Host, house: House, addresses: Collection[str], gateway: Host) -> str:
    """Close the connections of the nodes that were just removed, and revoke every pairing whose node does not exist.

    Returns, in words, what was done. Raises RemoteError.
    """
    ended = run_on(gateway, cut_script(addresses)).split() if addresses else []
    kept = [address for node in coordinator.get_fact(Headscale).nodes for address in node.addresses]
    found = orphans(house, pairings(gateway), kept)
    revoke(gateway, found)
    return f"{gateway.name}: connections cut: {len(ended)}, browser pairings revoked: {len(found)}"


def cut_script(addresses: Collection[str]) -> str:
    """A script that waits until tailscaled has dropped the nodes, so that they cannot connect again. Then it closes
    their open connections. It prints one line for each closed connection."""
    known = " ".join(f"-e {shlex.quote(chr(34) + address + chr(34))}" for address in addresses)
    peers = " or ".join(f"dst [{address}]" if ":" in address else f"dst {address}" for address in addresses)
    return "\n".join(
        [
            f"end=$(($(date +%s) + {LEARN_SECONDS}))",
            f"while tailscale status --json | grep -qF {known} && [ $(date +%s) -lt $end ]; do sleep 0.2; done",
            f"ss -H -K -t {shlex.quote(peers)} | cut -d' ' -f1",
        ]
    )


def all_versions(house: House) -> tuple[dict[str, str], str]:
    """Address -> Tailscale's version, for every node that a gateway knows; and, in words, which gateways did not answer
    ("" when all did). Costs one remote command for each gateway."""
    found, untold = dict[str, str](), list[str]()
    for member in house.gateways:
        try:
            found |= client_versions(run_on(inventory.get_host(member.name), "tailscale debug netmap"))
        except (RemoteError, ValueError) as error:
            untold.append(f"{member.name}: {error}" if isinstance(error, ValueError) else str(error))
    return found, "; ".join(untold)
