"""The house that an inventory and its settings describe, once all of it has been checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plan import root, values
from plan.access import ROLES, SERVERS, parse_access
from plan.devices import parse_devices
from plan.errors import SettingError, nearest, shown
from plan.house import House, Member

#: Every setting of group_data/all.py and host data, with the default that holds when it is left out.
SETTINGS: dict[str, Any] = {
    "house_name": "house",
    "house_domain": "house.internal",
    "access_table": None,
    "admin_networks": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"],
    "firewall_shut_off": [],
    "artifacts_source": "auto",
    "headscale_users": ["people"],
    "headscale_devices": [],
    "headscale_node_expiry": "180d",
    "tailscale_user": None,
    "ollama_model": None,
    "ollama_context": None,
    "openclaw_users": None,
    "lan_addresses": None,
}
#: What may differ from host to host; everything else is one value for the house.
HOST_SETTINGS = frozenset(
    {"lan_addresses", "firewall_shut_off", "tailscale_user", "ollama_model", "ollama_context", "openclaw_users"}
)
#: What playbooks take with `--data`; not settings.
PLAYBOOK_DATA = frozenset({"message", "device", "hours", "json", "now", "request", "pairings", "show"})
#: For messages about two names of one machine.
BOTH = "A machine that has several roles stands under one name in several groups"
#: Read by pyinfra's SSH connector rather than by us.
SSH_WORDS = (
    *("ssh_hostname", "ssh_port", "ssh_user", "ssh_password", "ssh_key", "ssh_key_password", "ssh_allow_agent"),
    *("ssh_look_for_keys", "ssh_forward_agent", "ssh_config_file", "ssh_known_hosts_file"),
    *("ssh_strict_host_key_checking", "ssh_paramiko_connect_kwargs", "ssh_connect_retries"),
    *("ssh_connect_retry_min_delay", "ssh_connect_retry_max_delay", "ssh_file_transfer_protocol"),
)


@dataclass(frozen=True)
class HostEntry:
    """What the inventory says about one host: its groups without `all` and the file's own, and its data."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]


def check_setting_names(data: Mapping[str, Any], where: str) -> None:
    """Refuse a setting that nobody reads, naming the nearest that somebody does."""
    for key in data:
        name = isinstance(key, str) and re.fullmatch(r"\w{1,60}", key, re.ASCII)
        if name and (key in SETTINGS or key in PLAYBOOK_DATA or key in SSH_WORDS or key.startswith("_")):
            continue
        known = SSH_WORDS if name and key.startswith("ssh") else tuple(SETTINGS)
        raise SettingError(
            f"{where}: {key if name else shown(key)}",
            data[key],
            f"one of {', '.join(known)}",
            nearest(key, known, "remove it or see docs/settings.md"),
        )
    root.check_words(where, data)


def build_house(entries: Sequence[HostEntry], groups: Sequence[str]) -> House:
    """The house of an inventory. `groups` are the names of all groups that the inventory file defines.

    Raises SettingError for the first thing that is wrong: unknown or missing group, two coordinators, a host without
    a role, a bad domain, address, user, device or setting name, two hosts with one address.
    """
    _check_groups(groups)
    for entry in entries:
        values.label(f"inventory: host {shown(entry.name)}", entry.name)
    _check_roles(entries)
    for entry in entries:
        check_setting_names(entry.data, f"host {entry.name} or group_data")
    settings = {name: _one_value(name, entries) for name in SETTINGS if name not in HOST_SETTINGS}
    users = values.users(settings["headscale_users"])
    gateways = _openclaw_users(entries, users)
    source = settings["artifacts_source"]
    if source not in ("auto", "release", "build"):
        raise SettingError("group_data/all.py: artifacts_source", source, "auto, release or build", "correct it")
    members = tuple(_member(entry, users, gateways.get(entry.name, ())) for entry in entries)
    _check_addresses(members)
    return House(
        name=values.label("group_data/all.py: house_name", settings["house_name"], values.HOUSE_NAME_MOST),
        domain=values.domain(settings["house_domain"]),
        members=members,
        access=parse_access(settings["access_table"], users),
        admin_networks=values.networks(settings["admin_networks"]),
        users=users,
        devices=parse_devices(settings["headscale_devices"], users, [entry.name for entry in entries]),
        node_expiry=values.expiry(settings["headscale_node_expiry"]),
        artifacts_source=source,
    )


def _check_groups(groups: Sequence[str]) -> None:
    for group in groups:
        if group not in ROLES:
            raise SettingError(
                "inventory: group",
                group,
                f"one of {', '.join(ROLES)}",
                nearest(group, ROLES, "rename or remove the group (helpers begin with '_')"),
            )


def _check_roles(entries: Sequence[HostEntry]) -> None:
    for role, most in (("coordinator", 1), ("gateway", None), ("model_hosts", None)):
        names = [entry.name for entry in entries if role in entry.groups]
        accepted = "exactly one host" if most else "at least one host"
        if not names:
            raise SettingError(f"inventory: {role}", names, accepted, f"put a host into the group {role!r}")
        if most and len(names) > most:
            raise SettingError(f"inventory: {role}", names, accepted, "leave one host in the group")
    for entry in entries:
        if not set(entry.groups) & set(ROLES):
            raise SettingError(
                f"inventory: host {entry.name}",
                list(entry.groups),
                f"a host in at least one of {', '.join(ROLES)}",
                "put it into a group or remove it",
            )
        if "clients" in entry.groups and set(entry.groups) & SERVERS:
            # A tagged node belongs to no person, so the rows for clients would not hold for it.
            raise SettingError(
                f"inventory: host {entry.name}",
                sorted(set(entry.groups) & set(ROLES)),
                "either a client or a server",
                "take it out of the group 'clients'; messages are sent from people's computers",
            )


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
    """Gateway -> the people who use it. Every person has exactly one; a lone gateway is everybody's."""
    gateways = [entry for entry in entries if "gateway" in entry.groups]
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        where, given = f"inventory: host {entry.name}: openclaw_users", entry.data.get("openclaw_users")
        if given is None and entry in gateways:
            if len(gateways) > 1:
                raise SettingError(
                    where,
                    None,
                    f"with several gateways ({', '.join(each.name for each in gateways)}) a list of who uses this one: "
                    f"of {', '.join(users)}",
                    'add "openclaw_users": ["NAME"] to the host\'s data, see docs/devices.md',
                )
            found[entry.name] = users
        elif given is not None:
            if entry not in gateways:
                raise SettingError(where, given, "nothing, on a host that is no gateway", "remove it")
            found[entry.name] = values.some_users(where, given, users)
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


def _member(entry: HostEntry, users: tuple[str, ...], openclaw_users: tuple[str, ...]) -> Member:
    where = f"inventory: host {entry.name}"
    given = entry.data.get("lan_addresses")
    addresses = [entry.data.get("ssh_hostname") or entry.name] if given is None else given
    user = entry.data.get("tailscale_user")
    if user is None:
        user = users[0]
    if user not in users:
        raise SettingError(
            f"{where}: tailscale_user",
            user,
            f"one of headscale_users: {', '.join(users)}",
            "add the user or correct it",
        )
    roles = frozenset(entry.groups) & frozenset(ROLES)
    shut_off = values.ports(f"host {entry.name}: firewall_shut_off", entry.data.get("firewall_shut_off") or [])
    lan = values.lan_addresses(where, addresses, "ssh_hostname" if given is None else "lan_addresses")
    return Member(entry.name, roles, lan, str(user), shut_off, openclaw_users, given is not None)
