"""The hosts and addresses of a lab. These are only data; no host is touched.

A lab is one LAN, with the IPv4 network `10.N.0.0/24` and a unique local IPv6 network. On it are the hosts of a house, a
`stranger`, and an `internet` host, which is the default route and stands for the rest of the world. N is the lab's
subnet number. Labs with different names and numbers can run at the same time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from plan.engine.errors import SettingError

DEFAULT_NAME = "demo"
DEFAULT_NET = 77
DEFAULT_TOPOLOGY = "single"

# Topology -> the hosts of the house. The inventory files have the same names.
TOPOLOGIES: dict[str, tuple[str, ...]] = {
    "single": ("home", "laptop"),
    "split": ("hub", "gate", "brain", "laptop"),
    "pair": ("home", "gate", "laptop", "desk"),
}
# Hosts that do not belong to the house. Every lab has them.
OUTSIDERS = ("stranger", "internet")
# A person's new device, which is in no inventory. A lab has it only with `up --phone`.
PHONE = "phone"

#: The habits of the profile `lived-in`: what people and hosters do to a host before the house is deployed
#: (lab/lived_in.py).
HABITS = {
    "admin": "no SSH login for root; `admin` and `berta` become root with sudo, which asks nothing and uses a pty",
    "ssh-port": "sshd of the first server listens on another port",
    "jump": "sshd of the laptop accepts logins only from `stranger`",
    "small-tmp": "/tmp and /var/tmp are memory, and small",
    "german": "programs speak German",
    "greeting": "each shell first prints a greeting, which is different each time",
    "hosts-file": "/etc/hosts is written again at each boot",
    "host-name": "hosts have other names than in the inventory",
    "resolved": "the laptop resolves names with systemd-resolved",
    "dead-proxy": "the environment names an HTTP proxy that does not answer",
    "apt-detect": "apt asks a program for its proxy",
    "no-internet": "there is no router, so no host has a default route",
    "chrony": "chrony runs on the first server",
    "fish": "the account on the laptop is `berta`, whose shell is fish",
    "umask": "other accounts cannot read new files",
}
FRESH, LIVED_IN = "fresh", "lived-in"

# The last part of a host's addresses: decimal for IPv4, and the same digits for IPv6. The router has .254 and ::fe.
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

# The addresses at which the `internet` host answers, on ports 80 and 443. Both are reserved for documentation (RFC 5737
# TEST-NET-2, RFC 3849), so no real server can answer there. TEST-NET-3 is not used: some machines get their packages
# through it.
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
    """A lab. Its name, its subnet number (1 to 254) and its topology decide everything else."""

    name: str = DEFAULT_NAME
    net: int = DEFAULT_NET
    topology: str = DEFAULT_TOPOLOGY
    #: Whether it has a `phone`.
    phone: bool = False
    #: Names of HABITS; none on fresh hosts.
    habits: tuple[str, ...] = ()
    #: Whether the processor looks like one core with several threads, so that the model server uses one thread. Its
    #: programs may still use all of the processor.
    one_core: bool = False
    #: Whether the hosts' roots are in memory.
    in_memory: bool = False

    def __post_init__(self) -> None:
        # The name becomes part of paths, of nspawn's machine names and of cgroup names.
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
        # A unique local network (RFC 4193): fd, then 4c4142 ("LAB"), then the subnet number with the same digits as in
        # IPv4. So people see that 10.77.0.11 and fd4c:4142:77::11 are the same host.
        return IPv6Network(f"fd4c:4142:{self.net}::/64")

    @property
    def controller(self) -> Host:
        """The machine itself, with its addresses in the lab."""
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
        """The name of the machine's interface in the lab (its leg). It has 15 characters at most."""
        return f"lab{self.net}"

    def place(self, name: str) -> Host:
        """A host with its addresses in this lab's network, also if the lab's topology does not have that host."""
        number = NUMBERS[name]
        digits = f"{number:x}" if name == "internet" else str(number)
        return Host(name, self.lan_v4[number], self.lan_v6[int(digits, 16)])


def parse_net(text: str) -> int:
    """The subnet number that was typed. SettingError if it is not a number."""
    try:
        return int(text)
    except ValueError:
        raise SettingError(
            "LAB_NET (--net)", text, "a number from 1 to 254, it becomes 10.N.0.0/24", "choose a free number"
        ) from None


def parse_profile(text: str) -> tuple[str, ...]:
    """The habits of the profile that was typed: `fresh`, `lived-in`, or names with commas between."""
    return {FRESH: (), LIVED_IN: tuple(HABITS)}.get(text, tuple(text.split(",")))
