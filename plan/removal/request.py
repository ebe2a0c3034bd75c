"""What a removal is asked to remove, from what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from plan.engine.errors import SettingError, nearest
from plan.house.access_table import SERVERS
from plan.house.house import House

Kind = Literal["role", "host", "dead", "house"]
EXAMPLES = "--data everything=NAME, --data dead=HOST, or --data role=ROLE --data on=HOST"


@dataclass(frozen=True)
class Request:
    """`host`: whose; "" for the whole house. `role`: for a role alone. `delete`: also what people may want to keep."""

    kind: Kind
    host: str = ""
    role: str = ""
    delete: bool = False

    def reached(self, house: House) -> tuple[str, ...]:
        """Names of the hosts that a run for it connects to: of a host that leaves the control server has to know."""
        if self.kind == "house":
            return tuple(member.name for member in house.members)
        hosts = {"role": (self.host,), "dead": ()}.get(self.kind, (self.host,))
        others = () if self.kind == "role" else (house.coordinator.name,)
        return tuple(dict.fromkeys((*hosts, *others)))


def request(data: Mapping[str, str], house: House) -> Request:
    """The request in what was typed behind `--data`. Raises SettingError when it is none, or not whole.

    Whether a host can be spared is told by `spared`.
    """
    asked = [word for word in ("everything", "dead", "role") if word in data]
    if len(asked) != 1:
        found = " and ".join(asked) or "nothing"
        raise SettingError("what to remove", found, f"one of {EXAMPLES}", "see docs/removal.md")
    fate = data.get("data", "keep")
    if fate not in ("keep", "delete"):
        raise SettingError("--data data", fate, "keep or delete", "leave it out to keep what people may want")
    delete = fate == "delete"
    if asked != ["role"] and "on" in data:
        raise SettingError("--data on", data["on"], f"nothing with {asked[0]}", f"leave it out, or: {EXAMPLES}")
    if asked == ["role"]:
        return _role(data, house, delete)
    if asked == ["dead"]:
        return _dead(data, house, "data" in data)
    return _everything(data["everything"], house, delete)


def _role(data: Mapping[str, str], house: House, delete: bool) -> Request:
    role, host = data["role"], data.get("on")
    if role not in SERVERS:
        accepted = f"one of {', '.join(sorted(SERVERS))}"
        raise SettingError("--data role", role, accepted, nearest(role, SERVERS, "see docs/removal.md"))
    names = [member.name for member in house.members]
    if host is None or host not in names:
        raise SettingError("--data on", host, f"a host: {', '.join(names)}", nearest(host, names, "add its name"))
    if role in house.member(host).roles:
        raise SettingError(
            f"--data role={role} of host {host}",
            "a role that the inventory gives it",
            "a role that the inventory does not give this host any more",
            f"take {host} out of the group {role!r} of the inventory, give the role to another host, and deploy; then "
            "run this again",
        )
    return Request("role", host, role, delete)


def _dead(data: Mapping[str, str], house: House, fate: bool) -> Request:
    host, coordinator = data["dead"], house.coordinator.name
    if fate:
        raise SettingError(
            "--data data", data["data"], "nothing with dead: nothing is on a host that is gone", "leave it out"
        )
    if host == coordinator:
        raise SettingError(
            "--data dead",
            host,
            "a host other than the coordinator, which knows the nodes",
            "a coordinator that is dead is restored on another host, see docs/restore.md",
        )
    device = next((each for each in house.devices if each.name == host), None)
    if device:
        step = f"playbooks/device_remove.py --data device={host}"
        raise SettingError("--data dead", host, "a host; this is a device", step)
    return Request("dead", host)


def _everything(name: str, house: House, delete: bool) -> Request:
    names = [member.name for member in house.members]
    accepted = f"the name of a host ({', '.join(names)}) or of the house ({house.name}), typed in full"
    if name == house.name and name in names:
        step = "give the host another name in the inventory and deploy; then run this again"
        raise SettingError("--data everything", name, "a name that means one thing: house and host have this one", step)
    if name == house.name:
        return Request("house", delete=delete)
    if name not in names:
        raise SettingError("--data everything", name, accepted, nearest(name, [*names, house.name], "type its name"))
    member = house.member(name)
    if member == house.coordinator:
        raise SettingError(
            "--data everything",
            name,
            "a host other than the coordinator, without which no other host has a house",
            f"to remove the whole house: --data everything={house.name}. To give the role to another host: "
            "docs/removal.md#the-coordinator",
        )
    for role in sorted(SERVERS & member.roles):
        if len(house.with_role(role)) == 1:
            raise SettingError(
                "--data everything",
                name,
                f"a host that the house can do without: this one alone has the role {role}",
                f"give the role {role} to another host in the inventory and deploy; or remove the whole house: "
                f"--data everything={house.name}",
            )
    return Request("host", name, delete=delete)
