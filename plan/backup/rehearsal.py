"""A house on virtual hosts, for a rehearsal of its restore: who stands in for whom, and what is different there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plan.engine.errors import SettingError
from plan.house.access_table import ROLES
from plan.house.house import House
from plan.house.inventory import HostEntry
from plan.house.settings import SETTINGS

#: Number of servers -> topology of the lab, its hosts for servers, its hosts for clients.
SHAPES: Mapping[int, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    1: ("single", ("home",), ("laptop",)),
    2: ("pair", ("home", "gate"), ("laptop", "desk")),
    3: ("split", ("hub", "gate", "brain"), ("laptop",)),
}
#: The name of a client for people who have none in the inventory.
STAND_IN = "rehearsal-client"
#: Settings that are those of the lab.
OF_THE_LAB = frozenset({"lan_addresses", "admin_networks", "ollama_model", "ollama_context", "firewall_shut_off"})


@dataclass(frozen=True)
class StandIn:
    """A host of the house, the lab's host that stands in for it, its groups, and its settings."""

    name: str
    slot: str
    groups: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Rehearsal:
    """`told`: in words, what is other than in the house."""

    topology: str
    hosts: tuple[StandIn, ...]
    told: tuple[str, ...]

    @property
    def inventory(self) -> str:
        """The text of an inventory file. All settings stand in it, so group_data decides nothing."""
        lines = [
            "from lab.hosts import lab_host as _lab_host",
            *(
                f"_{number} = ({each.name!r}, _lab_host({each.slot!r}, **{dict(each.settings)!r})[1])"
                for number, each in enumerate(self.hosts)
            ),
        ]
        for role in ROLES:
            names = [f"_{number}" for number, each in enumerate(self.hosts) if role in each.groups]
            if names:
                lines.append(f"{role} = [{', '.join(names)}]")
        return "\n".join(lines) + "\n"


def rehearsal(house: House, entries: Sequence[HostEntry]) -> Rehearsal:
    """The rehearsal of a house. Raises SettingError for a house that has more servers than a lab."""
    data = {entry.name: entry.data for entry in entries}
    stateful = [member for member in house.members if member.roles & {"coordinator", "gateway"}]
    # The coordinator comes first. Of the model hosts one is enough, and best one that is there already.
    models = house.with_role("model_hosts")
    model = next((each for each in models if each in stateful), models[0])
    servers = sorted(
        {*stateful, model}, key=lambda each: (each != house.coordinator, "gateway" not in each.roles, each.name)
    )
    if len(servers) not in SHAPES:
        raise SettingError(
            "inventory: servers for a rehearsal",
            ", ".join(each.name for each in servers),
            f"up to {max(SHAPES)}: coordinator, gateways, and one model host",
            "rehearse with an inventory that has fewer gateways: INVENTORY=FILE",
        )
    topology, slots, places = SHAPES[len(servers)]
    told = ["the hosts are virtual ones of this machine, on a network of their own; addresses are those of the lab"]
    hosts = []
    for member, slot in zip(servers, slots, strict=False):
        groups = tuple(role for role in ROLES if role in member.roles and (role != "model_hosts" or member == model))
        hosts.append(StandIn(member.name, slot, groups, _settings(data[member.name])))
    clients = _clients(house)[: len(places)]
    for (name, user), slot in zip(clients, places, strict=False):
        settings = _settings(data.get(name, data[house.coordinator.name]))
        hosts.append(StandIn(name, slot, ("clients",), {**settings, "openclaw_users": None, "tailscale_user": user}))
    told.append("the model is the smallest one, so answers are poor")
    names = [name for name, _ in clients]
    told.append(f"{', '.join(names)}: the real machine is not there, so a virtual one joins anew under this name")
    left = [each.name for each in house.members if each not in servers and each.name not in names]
    if left:
        told.append(f"not rehearsed, since a backup has nothing of them: {', '.join(left)}")
    ssh = house.port("ssh")
    if ssh != 22:
        told.append(f"SSH listens on port 22 there, not on {ssh}")
    return Rehearsal(topology, tuple(hosts), tuple(told))


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """A host's settings, but for those of the lab. sshd of the lab's hosts listens on port 22."""
    found = {name: data.get(name, default) for name, default in SETTINGS.items() if name not in OF_THE_LAB}
    rows = [{**row, "port": "22/tcp"} if row.get("id") == "ssh" else row for row in found["access_table"]]
    return {**found, "access_table": rows}


def _clients(house: House) -> list[tuple[str, str]]:
    """Name and user of one client for each gateway: one of the inventory, else a stand-in."""
    found: list[tuple[str, str]] = []
    for number, gateway in enumerate(house.gateways):
        own = next((each for each in house.with_role("clients") if house.gateway_of(each.user) == gateway), None)
        name = STAND_IN if number == 0 else f"{STAND_IN}-{number}"
        found.append((own.name, own.user) if own else (name, gateway.openclaw_users[0]))
    return found
