"""Checks an inventory with its settings, and makes the house from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plan.backup import schedule
from plan.backup.places import KEPT
from plan.backup.recipients import recipients
from plan.devices.declared import parse_devices
from plan.engine.as_root import both_ways
from plan.engine.errors import SettingError, nearest, refuse, shown, tried
from plan.house import setting_values
from plan.house.access_table import ROLES, SERVERS, parse_access
from plan.house.host_data import hides_the_address, wrong_data
from plan.house.house import House, Member
from plan.house.settings import HOST_SETTINGS, HOUSE_NAME, PLAYBOOK_DATA, SETTINGS

#: For messages about two names of one machine.
BOTH = "A machine that has several roles stands under one name in several groups"


@dataclass(frozen=True)
class HostEntry:
    """One host in the inventory. `groups`: without `all` and without the group that pyinfra names after the file."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]


def build_house(entries: Sequence[HostEntry], groups: Sequence[str]) -> House:
    """The house of an inventory. `groups`: the names of all groups that the inventory file defines.

    Raises one SettingError with all errors: an unknown or missing group, two coordinators, a host without a role, a
    wrong domain, address, user, device, row or setting name, two hosts with one address.
    """
    problems = [unknown_group(group) for group in groups if group not in ROLES]
    for entry in entries:
        tried(problems, "", setting_values.label, f"inventory: host {shown(entry.name)}", entry.name)
    # Further errors about this host must not print a name with control characters.
    entries = [each if setting_values.is_label(each.name) else replace(each, name=shown(each.name)) for each in entries]
    problems += [*_wrong_roles(entries), *_wrong_data(entries)]
    settings = {
        name: tried(problems, default, _one_value, name, entries)
        for name, default in SETTINGS.items()
        if name not in HOST_SETTINGS
    }
    source = settings["artifacts_source"]
    if source not in ("auto", "release", "build"):
        problems.append(
            SettingError("group_data/all.py: artifacts_source", source, "auto, release or build", "correct it")
        )
    none: tuple[Any, ...] = ()
    # If the list of users is wrong, we do not check what depends on it: we would report errors that are none.
    users = tried(problems, none, setting_values.users, settings["headscale_users"])
    gateways: dict[str, tuple[str, ...]] = {}
    if users:
        gateways = tried(problems, gateways, _openclaw_users, entries, users)
    whole = [entry for entry in entries if users and not hides_the_address(entry.data)]
    members = tuple(filter(None, (tried(problems, None, _member, entry, users, gateways) for entry in whole)))
    tried(problems, None, _check_addresses, members)
    access, devices = none, none
    if users:
        access = tried(problems, none, parse_access, settings["access_table"], users)
        names = [entry.name for entry in entries]
        devices = tried(problems, none, parse_devices, settings["headscale_devices"], users, names)
    house = House(
        name=tried(
            problems, "", setting_values.label, HOUSE_NAME, settings["house_name"], setting_values.HOUSE_NAME_MOST
        ),
        domain=tried(problems, "", setting_values.domain, settings["house_domain"]),
        members=members,
        access=access,
        admin_networks=tried(problems, none, setting_values.networks, settings["admin_networks"]),
        users=users,
        devices=devices,
        node_expiry=tried(problems, "", setting_values.expiry, settings["headscale_node_expiry"]),
        artifacts_source=str(source),
        backup_recipients=tried(problems, none, recipients, settings["backup_recipients"]),
        backup_every=tried(problems, "", schedule.every, settings["backup_every"], settings["backup_recipients"]),
    )
    refuse(problems)
    return house


def unknown_group(group: str) -> SettingError:
    """The error for a group that is not a role."""
    return SettingError(
        "inventory: group",
        group,
        f"one of {', '.join(ROLES)}",
        nearest(group, ROLES, "rename or remove the group (helpers begin with '_')"),
    )


def _wrong_roles(entries: Sequence[HostEntry]) -> Iterator[SettingError]:
    for role, most in (("coordinator", 1), ("gateway", None), ("model_hosts", None)):
        names = [entry.name for entry in entries if role in entry.groups]
        accepted = "exactly one host" if most else "at least one host"
        if not names:
            yield SettingError(f"inventory: {role}", names, accepted, f"put a host into the group {role!r}")
        if most and len(names) > most:
            yield SettingError(f"inventory: {role}", names, accepted, "leave one host in the group")
    for entry in entries:
        if not set(entry.groups) & set(ROLES):
            yield SettingError(
                f"inventory: host {entry.name}",
                list(entry.groups),
                f"a host in at least one of {', '.join(ROLES)}",
                "put it into a group or remove it",
            )
        if "clients" in entry.groups and set(entry.groups) & SERVERS:
            # A server's node has tags and belongs to no person, so rows for clients would not apply to it.
            yield SettingError(
                f"inventory: host {entry.name}",
                sorted(set(entry.groups) & set(ROLES)),
                "either a client or a server",
                "take it out of the group 'clients'; messages are sent from people's computers",
            )


def _wrong_data(entries: Sequence[HostEntry]) -> Iterator[SettingError]:
    """Errors for names in the hosts' data, and for values that SSH reads. An error that all hosts have is reported
    once."""
    common: dict[str, Any] = {}
    if len(entries) > 1:
        first, *others = (entry.data for entry in entries)
        common = {key: first[key] for key in first if all(key in data and data[key] == first[key] for data in others)}
        yield from wrong_data(common, "host data or group_data", SETTINGS, PLAYBOOK_DATA)
    for entry in entries:
        own = {key: value for key, value in entry.data.items() if key not in common}
        yield from wrong_data(own, f"host {entry.name} or group_data", SETTINGS, PLAYBOOK_DATA)
        yield from both_ways(entry.data, f"host {entry.name} or group_data")


def _check_addresses(members: Sequence[Member]) -> None:
    owners: dict[str, str] = {}
    for member in members:
        for address in member.addresses:
            other = owners.setdefault(address, member.name)
            if other != member.name:
                raise SettingError(
                    f"inventory: hosts {other} and {member.name}",
                    address,
                    "addresses of its own for each host",
                    f"correct ssh_hostname or lan_addresses of one of them. {BOTH}",
                )


def _one_value(name: str, entries: Sequence[HostEntry]) -> Any:
    found = {entry.name: entry.data.get(name, SETTINGS[name]) for entry in entries}
    first = next(iter(found.values()), SETTINGS[name])
    if any(value != first for value in found.values()):
        raise SettingError(name, found, "one value for the whole house", "set it in group_data/all.py and nowhere else")
    return first


def _openclaw_users(entries: Sequence[HostEntry], users: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Gateway -> the people who use it. Every person has exactly one gateway. If there is only one, all use it."""
    gateways = [entry for entry in entries if "gateway" in entry.groups]
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        where, given = f"inventory: host {entry.name}: openclaw_users", entry.data.get("openclaw_users")
        if given is None and entry in gateways:
            if len(gateways) > 1:
                raise SettingError(
                    where,
                    None,
                    f"with several gateways ({', '.join(each.name for each in gateways)}), a list of the people who "
                    f"use this one, out of {', '.join(users)}",
                    'add "openclaw_users": ["NAME"] to the host\'s data, see docs/devices.md',
                )
            found[entry.name] = users
        elif given is not None:
            if entry not in gateways:
                raise SettingError(where, given, "no value on a host that is not a gateway", "remove it")
            found[entry.name] = setting_values.some_users(where, given, users)
    for user in users:
        at = [name for name, people in found.items() if user in people]
        if len(at) != 1:
            raise SettingError(
                f"inventory: openclaw_users: {user}",
                at,
                "every one of headscale_users at exactly one gateway",
                f"leave {user} at one of them" if at else f"add {user} to openclaw_users of a gateway",
            )
    return found


def _member(entry: HostEntry, users: tuple[str, ...], gateways: Mapping[str, tuple[str, ...]]) -> Member:
    where = f"inventory: host {entry.name}"
    problems: list[SettingError] = []
    given = entry.data.get("lan_addresses")
    addresses = [entry.data.get("ssh_hostname") or entry.name] if given is None else given
    user = entry.data.get("tailscale_user")
    if user is None:
        user = users[0]
    if user not in users:
        problems.append(
            SettingError(
                f"{where}: tailscale_user",
                user,
                f"one of headscale_users: {', '.join(users)}",
                "add the user or correct it",
            )
        )
    roles = frozenset(entry.groups) & frozenset(ROLES)
    shut, lan = frozenset[str](), tuple[str, ...]()
    listed = entry.data.get("firewall_shut_off") or []
    shut = tried(problems, shut, setting_values.ports, f"host {entry.name}: firewall_shut_off", listed)
    said = "ssh_hostname" if given is None else "lan_addresses"
    lan = tried(problems, lan, setting_values.lan_addresses, where, addresses, said)
    kept = entry.data.get("backup_folder"), entry.data.get("backup_folder_mounted", False)
    place = tried(problems, (KEPT, False), schedule.folder, where, *kept)
    refuse(problems)
    people = gateways.get(entry.name, ())
    return Member(entry.name, roles, lan, str(user), shut, people, given is not None, *place)
