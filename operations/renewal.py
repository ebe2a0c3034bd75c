"""New keys for what is in use: of servers, of the relay, of a node. The old ones are of no use afterwards."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import click
import gevent
from pyinfra import inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from facts.headscale import Headscale
from operations.ca.server import issue
from operations.engine.component import start_unit
from operations.engine.one_run import hold
from operations.engine.run_on_host import RemoteError, run_on
from operations.tailscale import join
from plan.engine.want import Unit

#: Headscale makes a key for its relay when it starts and finds none.
RELAY_KEY = "/var/lib/headscale/derp_server_private.key"
#: For so many seconds the nodes that were connected may take to connect again.
COMES_BACK_SECONDS = 90
#: Prints the public key of this host's node.
NODE_KEY = (
    "tailscale status --json --peers=false | "
    'sed -n \'s/^[[:space:]]*"PublicKey": "\\(nodekey:[0-9a-f]*\\)",*$/\\1/p\' | head -n 1'
)


@operation()
def server_key_rotated(
    folder: str, coordinator: str, question: Mapping[str, Any], unit: Unit, lasts: str
) -> Generator[FunctionCommand, None, None]:
    """Own the key of a server's certificate on this host: each run makes a new one, with a certificate and, where it
    has one, a successor, and restarts the unit that uses it. `lasts`: how long that takes, for people.

    The service has the old key until it restarts. After an interruption the next deployment or the next night's
    renewal restarts the unit.
    """
    hold()
    yield FunctionCommand(_server_key, (folder, inventory.get_host(coordinator), question, unit, lasts), {})


def _server_key(
    state: State, host: Host, folder: str, coordinator: Host, question: Mapping[str, Any], unit: Unit, lasts: str
) -> bool:
    host.log(f"{unit.name} gets a new key and restarts, which takes about {lasts}")
    begun = time.monotonic()
    if not issue(state, host, folder, question, coordinator):
        return False
    try:
        run_on(host, start_unit(unit))
    except RemoteError as error:
        logger.error(f"{host.print_prefix}{unit.name} has not started with its new key: {error}. Next: run this again")
        return False
    click.echo(
        f"\n    {host.name}: {unit.name} answers with a new key, after {time.monotonic() - begun:.1f} s", err=True
    )
    return True


@operation()
def relay_key_rotated(unit: Unit) -> Generator[FunctionCommand, None, None]:
    """Own the key of the relay on this host, the coordinator: each run makes a new one. Nodes learn it by themselves.

    Succeeds when the nodes that were connected to the control server are connected again. After an interruption,
    another run makes yet another key.
    """
    hold()
    yield FunctionCommand(_relay_key, (unit,), {})


def _relay_key(state: State, host: Host, unit: Unit) -> bool:
    try:
        before = _online(host)
        host.log(f"{unit.name} restarts with a new key for its relay; {len(before)} connected nodes come back")
        begun = time.monotonic()
        run_on(host, relay_script(unit))
        click.echo(f"\n    {host.name}: a new relay key is in force, after {time.monotonic() - begun:.1f} s", err=True)
        while (missing := before - _online(host)) and time.monotonic() - begun < COMES_BACK_SECONDS:
            gevent.sleep(1)
    except RemoteError as error:
        logger.error(f"{host.print_prefix}the relay's key was not changed completely: {error}. Next: run this again")
        return False
    if missing:
        logger.error(
            f"{host.print_prefix}not connected again after {COMES_BACK_SECONDS} s: {', '.join(sorted(missing))}. "
            "Next: see whether each is on; it comes back by itself"
        )
        return False
    click.echo(f"    all {len(before)} nodes are connected again, after {time.monotonic() - begun:.1f} s\n", err=True)
    return True


def _online(host: Host) -> set[str]:
    """Names of the nodes that are connected to the control server. Raises RemoteError when it does not answer."""
    known = host.get_fact(Headscale)
    if not known.answers:
        raise RemoteError(f"Headscale on {host.name} does not answer")
    return {node.given_name for node in known.nodes if node.online}


def relay_script(unit: Unit) -> str:
    """A script that has Headscale make a new key for its relay. The old one is removed just before the restart."""
    digest = f"$(sha256sum <{RELAY_KEY})"
    return "\n".join(
        [
            f"before=; if test -e {RELAY_KEY}; then before={digest}; rm {RELAY_KEY}; fi",
            start_unit(unit),
            f'test -s {RELAY_KEY} && [ "{digest}" != "$before" ] || '
            "{ echo 'Headscale has made no new key' >&2; exit 1; }",
        ]
    )


@operation()
def node_key_rotated(
    target: str, control: str, tags: Sequence[str], user: str, accept_dns: bool
) -> Generator[FunctionCommand, None, None]:
    """Own the node key of `target`, another host or this one, the coordinator: each run has it join again with a fresh
    key. Its node and its addresses stay.

    After an interruption the next run, or the next deployment, has it join.
    """
    hold()
    yield FunctionCommand(_node_key, (inventory.get_host(target), control, tuple(tags), user, accept_dns), {})


def _node_key(
    state: State, host: Host, target: Host, control: str, tags: tuple[str, ...], user: str, accept_dns: bool
) -> bool:
    try:
        host.log(f"{target.name} joins again; its connections over the VPN pause for some seconds")
        begun, before = time.monotonic(), run_on(target, NODE_KEY).strip()
        if not join(state, target, host, control, tags, user, accept_dns, bool(before)):
            return False
        after = run_on(target, NODE_KEY).strip()
    except RemoteError as error:
        logger.error(f"{host.print_prefix}{target.name} has no new key: {error}. Next: run this again")
        return False
    if after in ("", before):
        logger.error(f"{host.print_prefix}{target.name} still has the key {before[:20]}. Next: run this again")
        return False
    click.echo(
        f"\n    {target.name}: a new node key is in force, after {time.monotonic() - begun:.1f} s; "
        f"the old one, {before[:20]}..., is not known to the control server any more\n",
        err=True,
    )
    return True
