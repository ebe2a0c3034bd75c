"""Checks the form of the groups in an inventory file: a list of hosts, each a name or a name with its data.

pyinfra itself does not report other forms: it takes each letter of a text for a host, and ignores a mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from plan.engine.as_root import WAYS
from plan.engine.errors import SettingError, shown, without_secrets
from plan.house.access_table import ROLES
from plan.house.host_data import SSH_TYPES
from plan.house.inventory import unknown_group
from plan.house.setting_values import label

ACCEPTED = "a list of hosts in square brackets, each a name, or a name and its data in braces"
DATA = {"ssh_hostname": "192.168.1.10", "ssh_user": "root"}
SEE = "see inventory.py and docs/quick-start.md"


def wrong_forms(found: Mapping[str, Any], own: str) -> Iterator[SettingError]:
    """Errors for groups that do not have the right form. `found`: the variables of the inventory file. `own`: the group
    that pyinfra names after the file."""
    for group, value in found.items():
        if group in (*ROLES, "all") or (group == own and isinstance(value, (list, tuple))):
            yield from _wrong_group(group, value)
        elif not group.startswith("_") and isinstance(value, (list, tuple)) and any(_wrong_group(group, value)):
            yield unknown_group(group)


def _wrong_group(group: str, value: Any) -> Iterator[SettingError]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], list) and isinstance(value[1], dict):
        # The form in which pyinfra accepts a group with data for all its hosts.
        value = value[0]
    if not isinstance(value, list):
        yield _error(group, value, _as_list(value))
        return
    if _is_host(value):
        # ["laptop", {...}]: one host, in square brackets instead of round ones.
        yield _error(group, value, [tuple(value)])
        return
    for number, host in enumerate(value, 1):
        name, data = host if isinstance(host, tuple) and len(host) == 2 else (host, {})
        if not isinstance(name, str):
            yield _error(f"{group} host {number}", host, _as_list(host))
            continue
        if name.startswith("@"):
            # A connector of pyinfra, such as @local. But the verification, and the test of new firewall rules, need
            # SSH.
            yield SettingError(
                f"inventory: {group} host {number}",
                name,
                "a host that the run reaches over SSH, even if it is this computer",
                'give it a name and its address in the network: ("laptop", {"ssh_hostname": "192.168.1.20"}); this '
                "computer needs an SSH server for it: apt install openssh-server",
            )
            continue
        try:
            label(f"inventory: host {shown(name)}", name)
        except SettingError as error:
            yield error
            continue
        if not isinstance(data, dict):
            yield _error(
                f"{group} host {name}", data, (name, _as_data(data)), "data in braces, each value with its name"
            )


def _is_host(value: Any) -> bool:
    return (
        len(value) == 2 and isinstance(value[0], str) and (isinstance(value[1], (dict, set)) or _pairs(value[1]) != {})
    )


def _as_list(value: Any) -> list[Any]:
    """The list of hosts that somebody probably meant by another value; [] when we cannot tell."""
    if isinstance(value, str):
        return [(value, DATA)] if re.fullmatch(r"[a-z0-9-]+", value) else []
    if isinstance(value, Mapping):
        return [(name, data if isinstance(data, dict) else _as_data(data)) for name, data in value.items()]
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], str):
        return [(value[0], _as_data(value[1]))] if _is_host(value) else list(value)
    if isinstance(value, (tuple, list)):
        return [tuple(host) if isinstance(host, list) else host for host in value]
    return []


def _as_data(given: Any) -> dict[str, Any]:
    """The data that somebody probably meant, when a host's data is not a mapping."""
    return dict(given) if isinstance(given, dict) else _pairs(given) or DATA


def _pairs(text: Any) -> dict[str, Any]:
    """The known names and their values in a text such as "ssh_user=admin ssh_port=2222"."""
    if not isinstance(text, str):
        return {}
    found = re.findall(r"(\w+)\s*[=:]\s*[\"']?([\w.@:~/+-]+)", text)
    values = {"True": True, "False": False}
    return {
        name: int(value) if name == "ssh_port" and value.isdecimal() else values.get(value, value)
        for name, value in found
        if name in (*SSH_TYPES, *WAYS)
    }


def _error(place: str, value: Any, meant: Any, accepted: str = ACCEPTED) -> SettingError:
    group = place.partition(" ")[0]
    example = meant or [("NAME", DATA)]
    hosts = example if isinstance(example, list) else [example]
    written = ", ".join(_written(host) for host in hosts[:3])
    more = ", ..." if len(hosts) > 3 or " host " in place else ""
    return SettingError(
        f"inventory: {place}", without_secrets(value), accepted, f"write {group} = [{written}{more}], {SEE}"
    )


def _written(host: Any) -> str:
    return shown(without_secrets(host)).replace("'", '"')
