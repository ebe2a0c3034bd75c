"""What a lab is made of: hosts and addresses. Pure data, no host is touched.

A lab is one LAN, `10.N.0.0/24` and a unique local IPv6 network, with the hosts of a house, a `stranger` on
the same LAN and an `internet` host that stands for the rest of the world behind the default route. N is the
lab's subnet number, so labs with different names and numbers run beside each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from plan.engine.errors import SettingError

DEFAULT_NAME = "demo"
DEFAULT_NET = 77
DEFAULT_TOPOLOGY = "single"

# Who is in the house. The same names stand in the inventory files.
TOPOLOGIES: dict[str, tuple[str, ...]] = {
    "single": ("home", "laptop"),
    "split": ("hub", "gate", "brain", "laptop"),
    "pair": ("home", "gate", "laptop", "desk"),
}
# Who is not, and stands in every lab.
OUTSIDERS = ("stranger", "internet")
# A person's device as it comes, in no inventory. It is brought up when it is asked for.
PHONE = "phone"

#: What people and hosters do to a host before the house comes (lab/lived_in.py): the habits of profile `lived-in`.
HABITS = {
    "admin": "root may not log in over SSH; `admin` and `berta` become root by a sudo that asks nothing and uses a pty",
    "ssh-port": "sshd of the first server listens on another port",
    "jump": "sshd of the laptop lets nobody in but from `stranger`",
    "small-tmp": "/tmp and /var/tmp are memory, and small",
    "german": "programs speak German",
    "greeting": "each shell says something first, which is never the same twice",
    "hosts-file": "/etc/hosts is written anew at each boot",
    "host-name": "hosts have other names than in the inventory",
    "resolved": "the laptop asks names through systemd-resolved",
    "dead-proxy": "the environment names an HTTP proxy that does not answer",
    "apt-detect": "apt asks a program for its proxy",
    "no-internet": "there is no router, so no host has a default route",
    "chrony": "chrony runs on the first server",
    "fish": "the account on the laptop is `berta`, whose shell is fish",
    "umask": "files that somebody makes are for nobody else",
}
FRESH, LIVED_IN = "fresh", "lived-in"

# Last part of a host's addresses: decimal for IPv4, the same digits for IPv6 (the router is ::fe = 254).
NUMBERS = {
    "home": 11,
    "hub": 11,
    "gate": 12,
    "brain": 13,
    "laptop": 20,
    "desk": 21,
    PHONE: 30,
    "stranger": 66,
    "internet": 254,
}

# Addresses the `internet` host answers on, ports 80 and 443. Both are set aside for documentation (RFC 5737
# TEST-NET-2, RFC 3849), so nothing real can answer there. TEST-NET-3 is left alone: some machines use it for
# their own package access.
WORLD_V4 = IPv4Address("198.51.100.10")
WORLD_V6 = IPv6Address("2001:db8:198::10")


@dataclass(frozen=True)
class Host:
    """One virtual host and its addresses on the lab's LAN."""

    name: str
    v4: IPv4Address
    v6: IPv6Address


@dataclass(frozen=True)
class Lab:
    """A lab by name, subnet number (1 to 254) and topology; everything else follows."""

    name: str = DEFAULT_NAME
    net: int = DEFAULT_NET
    topology: str = DEFAULT_TOPOLOGY
    #: Whether it has a `phone`.
    phone: bool = False
    #: Names of HABITS; none on fresh hosts.
    habits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Names end up in paths, in nspawn machine names and in cgroup names.
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", self.name):
            raise SettingError(
                "LAB (--name)",
                self.name,
                "1 to 16 of a-z, 0-9 and '-', beginning with a letter",
                "choose another name for the lab",
            )
        if not 1 <= self.net <= 254:
            raise SettingError(
                "LAB_NET (--net)",
                self.net,
                "a number from 1 to 254, it becomes 10.N.0.0/24",
                "choose a free number",
            )
        if self.topology not in TOPOLOGIES:
            raise SettingError(
                "TOPOLOGY (--topology)",
                self.topology,
                " or ".join(TOPOLOGIES),
                "correct the name",
            )
        for habit in self.habits:
            if habit not in HABITS:
                raise SettingError(
                    "LAB_PROFILE (--profile)",
                    habit,
                    f"{FRESH}, {LIVED_IN}, or some of {', '.join(HABITS)}, with commas between",
                    "correct the name",
                )

    @property
    def lan_v4(self) -> IPv4Network:
        return IPv4Network(f"10.{self.net}.0.0/24")

    @property
    def lan_v6(self) -> IPv6Network:
        # A unique local network (RFC 4193): fd, then the 40 bits 4c4142 ("LAB") and the subnet number written
        # with the digits of its IPv4 twin, so that 10.77.0.11 and fd4c:4142:77::11 are easy to match.
        return IPv6Network(f"fd4c:4142:{self.net}::/64")

    @property
    def controller(self) -> Host:
        """The machine itself, as its lab sees it."""
        return Host("controller", self.lan_v4[1], self.lan_v6[1])

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every virtual host: the house first, then the outsiders."""
        names = TOPOLOGIES[self.topology] + ((PHONE,) if self.phone else ()) + OUTSIDERS
        return tuple(self.place(name) for name in names)

    def host(self, name: str) -> Host:
        """The host of that name; SettingError if this topology has none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise SettingError(
            f"host name in lab {self.name} ({self.topology})",
            name,
            ", ".join(host.name for host in self.hosts),
            "correct the name, bring up the other topology, or the phone with `python -m lab up --phone`",
        )

    @property
    def router(self) -> Host:
        return self.host("internet")

    @property
    def interface(self) -> str:
        """The machine's own leg in the lab; at most 15 characters, one per subnet."""
        return f"lab{self.net}"

    def place(self, name: str) -> Host:
        """The addresses a host has in this lab's network, whether or not its topology has that host."""
        number = NUMBERS[name]
        digits = f"{number:x}" if name == "internet" else str(number)
        return Host(name, self.lan_v4[number], self.lan_v6[int(digits, 16)])


def parse_net(text: str) -> int:
    """A subnet number as typed; SettingError if it is not a number."""
    try:
        return int(text)
    except ValueError:
        raise SettingError(
            "LAB_NET (--net)", text, "a number from 1 to 254, it becomes 10.N.0.0/24", "choose a free number"
        ) from None


def parse_profile(text: str) -> tuple[str, ...]:
    """The habits that a profile means, as typed: `fresh`, `lived-in`, or names with commas between."""
    return {FRESH: (), LIVED_IN: tuple(HABITS)}.get(text, tuple(text.split(",")))
