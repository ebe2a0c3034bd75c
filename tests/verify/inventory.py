"""Reads the house from an inventory file, and how SSH reaches its hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.state import State
from lab.topology import WORLD_V4, WORLD_V6, Lab
from plan.engine.as_root import WAYS, way
from plan.engine.errors import SettingError
from plan.engine.ssh_config import host_word, include_word, path_word, port_word, user_word
from plan.house.access_table import ROLES
from plan.house.house import House, Member
from plan.house.inventory import HostEntry, build_house

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Place:
    """How SSH reaches a host. `address`: to which SSH connects. An empty text means SSH's own default."""

    name: str
    address: str
    port: str = ""
    user: str = ""
    key: str = ""
    known_hosts: str = ""
    #: The SSH configuration file that the inventory names for this host. Our own options come before it.
    config: str = ""
    #: The key of plan/engine/as_root.py: WAYS with which commands run as root there; "" for a login as root.
    way: str = ""

    @property
    def prefix(self) -> str:
        """The beginning of a command that has to run as root."""
        return f"{WAYS[self.way]} " if self.way else ""


@dataclass(frozen=True)
class Subject:
    """What is verified: a house, how SSH reaches its hosts, and the lab, if the hosts are those of a lab."""

    file: str
    house: House
    places: Mapping[str, Place]
    #: Names of the hosts that are probed.
    scope: frozenset[str]
    lab: Lab | None
    #: The machine outside the VPN from the option --outside, by a name that SSH knows; "" for none.
    named_outside: str = ""

    @property
    def asked(self) -> tuple[Member, ...]:
        """The hosts that are asked for their state: the probed hosts, and the gateways, because every probe needs
        them."""
        return tuple(each for each in self.house.members if each.name in self.scope or "gateway" in each.roles)

    @property
    def outside(self) -> Place | None:
        """The machine outside the VPN from which probes are made. None: the computer that runs the verification."""
        if self.named_outside:
            return Place(self.named_outside, self.named_outside, config="~/.ssh/config")
        if self.lab is None:
            return None
        stranger, model = self.lab.host("stranger"), next(iter(self.places.values()))
        return Place("stranger", str(stranger.v4), user="root", key=model.key, known_hosts=model.known_hosts)

    @property
    def outside_name(self) -> str:
        return "controller" if self.outside is None else self.outside.name

    @property
    def internet(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports of the lab's internet. Empty outside a lab, because we do not want to use a stranger's
        host."""
        if self.lab is None:
            return ()
        return tuple((str(address), port) for address in (WORLD_V4, WORLD_V6) for port in (80, 443))


def read_inventory(file: str) -> list[dict[str, Any]]:
    """Name, groups and data of every host in an inventory file, as pyinfra reads it. Raises SettingError.

    It runs pyinfra in another process, because pyinfra's command line patches its Python interpreter (gevent).
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise SettingError("--inventory", file, "an inventory file", "name it, for example --inventory inventory.py")
    command = [str(Path(sys.executable).with_name("pyinfra")), str(path), "debug-inventory", "--json"]
    # In the folder of the repository, because pyinfra looks there for group_data and the lab's modules.
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    start = done.stdout.find("[")
    # For a file that it cannot read, pyinfra prints an error and ends with status 0.
    if done.returncode or start < 0:
        raise SettingError("--inventory", file, "a file that pyinfra can read", f"see:\n{done.stdout}{done.stderr}")
    found: list[dict[str, Any]] = json.loads(done.stdout[start:])
    if not found:
        raise SettingError("--inventory", file, "an inventory with at least one host", "put your hosts into it")
    return found


def subject(file: str, found: Iterable[Mapping[str, Any]], only: Iterable[str], outside: str = "") -> Subject:
    """What to verify. `found`: the result of `read_inventory`. `only`: names of hosts, empty for all. `outside`: a
    machine that is not in the VPN, by a name that SSH knows.

    Raises SettingError when the inventory is not that of a house, when a host in `only` is not in it, and when
    `outside` is a host of the house.
    """
    # pyinfra adds these groups by itself.
    own = {"all", Path(file).stem} - set(ROLES)
    entries = [
        HostEntry(each["name"], tuple(group for group in each["groups"] if group not in own), each["data"])
        for each in sorted(found, key=lambda each: str(each["name"]))
    ]
    house = build_house(entries, sorted({group for entry in entries for group in entry.groups}))
    names = [member.name for member in house.members]
    if outside:
        host_word("--outside", outside)
    for name in only:
        if name not in names:
            raise SettingError("--only", name, f"one of {', '.join(names)}", "correct it")
    places = {entry.name: place(entry.name, entry.data) for entry in entries}
    if outside in names or any(outside == each.address for each in places.values()):
        raise SettingError(
            "--outside", outside, "a machine that is not in the house's VPN", "name another, or leave the option out"
        )
    return Subject(file, house, places, frozenset(only) or frozenset(names), _lab(places), outside)


def place(name: str, data: Mapping[str, Any]) -> Place:
    """How SSH reaches a host, from the same data that pyinfra uses. Raises SettingError for a value that ssh cannot
    read."""

    def word(check: Callable[[str, object], str], key: str) -> str:
        value = data.get(key)
        if value in (None, ""):
            return ""
        check(f"inventory: host {name}: {key}", value)
        return str(value)

    known = word(path_word, "ssh_known_hosts_file")
    return Place(
        name,
        word(host_word, "ssh_hostname") or name,
        port=word(port_word, "ssh_port"),
        user=word(user_word, "ssh_user"),
        key=word(path_word, "ssh_key"),
        known_hosts=str(Path(known).expanduser()) if known else "",
        config=word(include_word, "ssh_config_file") or "~/.ssh/config",
        way=way(data),
    )


def _lab(places: Mapping[str, Place]) -> Lab | None:
    """The lab, if all hosts belong to one. We know it by its SSH configuration."""
    configs = {each.config for each in places.values()}
    if len(configs) != 1:
        return None
    config = Path(configs.pop())
    state = State.of(config.parent.name)
    return state.read_lab() if config == state.ssh_config else None


def ssh_config(places: Iterable[Place], sockets: Path) -> str:
    """An SSH configuration with one shared connection for each host. It accepts only known keys, and asks nothing."""
    hosts, lines = list(places), []
    for each in hosts:
        lines += [f"Host {each.address}"]
        for word, value in (("Port", each.port), ("User", each.user)):
            lines += [f"  {word} {value}"] if value else []
        if each.key:
            lines += [f"  IdentityFile {path_word('ssh_key', each.key)}", "  IdentitiesOnly yes"]
        if each.known_hosts:
            known = path_word("ssh_known_hosts_file", each.known_hosts)
            lines += [f"  UserKnownHostsFile {known}", "  GlobalKnownHostsFile /dev/null"]
        lines += [
            "  StrictHostKeyChecking yes",
            "  BatchMode yes",
            "  ConnectTimeout 10",
            "  ServerAliveInterval 10",
            "  ControlMaster auto",
            f"  ControlPath {sockets}/%C",
            "  ControlPersist 60",
        ]
        # ssh uses the first value of an option, so the included file adds only other options: jump hosts, host names.
        lines += [f"  Include {include_word('ssh_config_file', each.config)}"] if each.config else []
    # ssh reads this file again for a jump host. The jump host's options are in the files that are included above, but
    # ssh does not read these inside a block for another host. So this block includes them for all other names.
    lines += [f"Host * {' '.join(f'!{each.address}' for each in hosts)}", "  BatchMode yes", "  ConnectTimeout 10"]
    configs = dict.fromkeys(each.config for each in hosts if each.config)
    lines += [f"  Include {include_word('ssh_config_file', config)}" for config in configs]
    return "\n".join(lines) + "\n"
