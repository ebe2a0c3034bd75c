"""Removal: a role, a host, a host that is gone, or the whole house, by what the house has noted as its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import click
from pyinfra import host, inventory
from pyinfra.api.exceptions import ConnectError

from facts.ca import CaCertificate
from facts.headscale import Headscale
from facts.removal import RemovalFound
from facts.tailscale import Tailscale
from operations.devices.nodes import who_is_who
from operations.engine.answers import ask
from operations.engine.barrier import barrier
from operations.engine.run import this_run
from operations.removal import cleared, forgotten, opened, out_of_vpn, unheld
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line
from plan.house.house import House, Member
from plan.removal.belongings import LAST, command, parts_of
from plan.removal.leaving import Leaving, asked_folders, asked_paths, authority_files, leaving
from plan.removal.request import Request
from plan.removal.told import lines
from plan.removal.vpn_node import host_leaving, known_names
from plan.removal.wrong_host import wrong_host
from tasks.base import names_of
from tasks.engine.hosts import profile_of
from tasks.engine.house import WrongInput


def remove(house: House, asked: Request) -> None:
    """Plan the removal on the host whose turn it is, say all of it, and carry it out in an order that can be cut off
    anywhere: the VPN's side first, the coordinator after all others, the firewall and the notes last."""
    coordinator, mine = house.coordinator.name, host.name
    if asked.kind == "house" and mine == coordinator:
        _no_devices(house)
    if asked.kind == "dead" and mine == coordinator:
        _is_dead(house, asked.host)
    plans: dict[str, Leaving] = {}
    if asked.kind == "house" or mine == asked.host:
        plans[mine] = _planned(house, house.member(mine), asked)
        _tell(plans[mine])
    if mine == coordinator and asked.kind in ("host", "dead"):
        _node(house, asked.host)
    barrier(name="Out of the VPN")
    if mine in plans and mine != coordinator:
        _host(house, plans[mine])
    barrier(name="Other hosts done")
    if mine in plans and mine == coordinator:
        _host(house, plans[mine])
    if mine in plans and asked.kind != "role":
        unheld(name="Removal | Note of runs", last_run=profile_of(mine).last_run)
    if mine == coordinator or asked.kind == "role":
        _afterwards(house, asked)


def _planned(house: House, member: Member, asked: Request) -> Leaving:
    """What goes from a host. Raises WrongInput, before anything has changed on any."""
    profile = profile_of(member.name)
    roles = frozenset({asked.role} if asked.kind == "role" else {"all", "coordinator", "gateway", "model_hosts"})
    parts = parts_of(roles)
    accounts = tuple(name for part in parts for name in part.accounts)
    found = ask(
        host,
        RemovalFound,
        paths=asked_paths(house, roles),
        folders=asked_folders(roles),
        units=tuple(unit for part in parts for unit in part.units),
        accounts=accounts,
        account="openclaw" if "openclaw" in accounts else "",
        certificate=authority_files(house)[0],
    )
    # A role is removed without the coordinator, which may be another host by now.
    authority = "" if asked.kind == "role" else ask(inventory.get_host(house.coordinator.name), CaCertificate)
    problems = wrong_host(house, member, found, profile, authority, whole="all" in roles)
    if problems:
        raise WrongInput("\n    ".join(["nothing was changed:", *map(str, problems)]))
    return leaving(house, member, found, profile, roles, asked.delete)


def _tell(plan: Leaving) -> None:
    """Say all that goes and stays. The same with --dry, before a question, and without one."""
    said = lines(plan) if plan or plan.stays else (f"{plan.host}: nothing of the house is there",)
    click.echo("\n" + "\n".join(f"    {each}" for each in said), err=True)


def _host(house: House, plan: Leaving) -> None:
    for part in plan.parts:
        if part.part == LAST:
            opened(name="Removal | Firewall, last files", wanted=plan, part=part)
            continue
        own_names = part.part.name == "Base, CA, health"
        there = own_names and (plan.names or part)
        cleared(
            name=f"Removal | {part.part.name}",
            wanted=plan,
            part=part,
            names=names_of(house) if there else None,
            authority=authority_files(house) if there else (),
        )
    if plan.forgets:
        forgotten(name="Removal | Places given back", wanted=plan)


def _node(house: House, name: str) -> None:
    """Have the host's node, its keys and its browsers go."""
    known, target = host.get_fact(Headscale), inventory.get_host(name) if name in _names(house) else None
    if not known.answers:
        raise WrongInput(
            f"Headscale on {host.name} does not answer, so the node of {line(name)} cannot be removed (nothing was "
            "changed). Next: run the deployment of the coordinator, then this again"
        )
    seen = target.get_fact(Tailscale) if target is not None and target.connected else None
    own = seen.addresses if seen and seen.joined else ()
    wanted = host_leaving(name, known.nodes, known.keys, known.record, own, datetime.now(UTC))
    click.echo("".join(f"\n    {each}" for each in wanted.announced), err=True)
    out_of_vpn(name=f"Removal | Node of {name}", house=house, leaves=name, wanted=wanted)


def _names(house: House) -> Iterable[str]:
    return [member.name for member in house.members]


def _is_dead(house: House, name: str) -> None:
    """Refuse a host that is alive, or that nobody knows. Raises WrongInput."""
    if name not in _names(house):
        known = host.get_fact(Headscale)
        nodes = known_names(known.nodes, known.record)
        if known.answers and name not in nodes:
            accepted = f"a host of the inventory or a node of the VPN: {', '.join(sorted({*_names(house), *nodes}))}"
            raise _refusal(SettingError("--data dead", name, accepted, "correct the name"))
        return
    target = inventory.get_host(name)
    try:
        target.connect(reason="to see that it is dead", show_errors=False, raise_exceptions=True)
    except ConnectError:
        return
    raise _refusal(
        SettingError(
            "--data dead",
            name,
            "a host that does not answer over SSH; this one does",
            f"to remove all of the house on it: {command(this_run().command_line.inventory, f'everything={name}')}",
        )
    )


def _no_devices(house: House) -> None:
    """Refuse while people's devices are in the VPN: they would be left with a program that finds no house."""
    known = host.get_fact(Headscale)
    devices = sorted(who_is_who(house, known).devices)
    if devices:
        raise _refusal(
            SettingError(
                "--data everything",
                house.name,
                f"a house without devices; in its VPN: {', '.join(devices)}",
                "remove each first: "
                + "; ".join(f"playbooks/device_remove.py --data device={each}" for each in devices),
            )
        )


def _refusal(error: SettingError) -> WrongInput:
    return WrongInput(f"{error} (nothing was changed)")


def _afterwards(house: House, asked: Request) -> None:
    file = this_run().command_line.inventory or "inventory.py"
    if asked.kind == "house":
        said = "the inventory, the cache and the pages in enrolment/ on this computer are yours to delete"
    elif asked.kind == "role":
        said = f"pyinfra {file} deploy.py, so that no other host looks for it there"
    else:
        said = f"take {line(asked.host)} out of {file}, then pyinfra {file} deploy.py, so that no other host knows it"
    click.echo(f"\n    Afterwards: {said}\n", err=True)
