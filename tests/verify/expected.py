"""What the hosts of a house must answer each other, and what they must not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lab.topology import WORLD_V4, WORLD_V6
from plan.firewall.rules import ways_out
from plan.house.access_table import Row
from plan.house.house import House, Member
from plan.openclaw.configuration import CONTAINER_ROUTER
from plan.verification import (
    Forbidden,
    closed_over_vpn,
    forbidden_to_container,
    kind,
    rows_at,
    rows_over_vpn,
    served_at,
    service_users,
    speaker,
    tls_name,
)
from tests.verify.inventory import Subject
from tests.verify.once import Once
from tests.verify.printed import routers
from tests.verify.probes.network import DNS_NAME
from tests.verify.state import HostState

#: The address by which Podman's pasta can show a container its host (podman-run(1), --network).
HOST_ALIAS = "169.254.1.2"


@dataclass(frozen=True)
class Asked:
    """A service of the access table that is asked how it is: `item` is the probe's, at an address or by a name."""

    row: Row
    member: Member
    at: str
    item: str


def target(address: str, port: int) -> str:
    return f"{address} {port}"


class Expected:
    """By the access table, and by what the hosts themselves say: `state` of a host, by name, and `world`, addresses and
    ports outside the house that a service must not reach."""

    subject: Subject
    house: House
    state: Once[HostState]
    world: Once[tuple[tuple[str, int], ...]]

    def states(self) -> dict[str, HostState]:
        """The state of the hosts that are asked, side by side."""
        names = [member.name for member in self.subject.asked]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(self.state, names), strict=True))

    def ways_out(self, member: Member) -> dict[str, str]:
        """What the access table's rows to addresses let root of a host reach by TCP: the row's id by target."""
        rows = ways_out(self.house, member)
        return {target(row.target, row.port): row.id for row in rows if row.protocol == "tcp"}

    def asked_outside(self, address: str) -> list[Asked]:
        """What an address on the local network must answer anybody in its own words."""
        member = next(each for each in self.house.members if address in each.addresses)
        rows = [row for row in rows_at(self.house, member) if (row.over, row.source) == ("lan", "lan")]
        return [self._asked(row, member, address) for row in rows]

    def _asked(self, row: Row, member: Member, at: str) -> Asked:
        return Asked(row, member, at, f"{kind(row)} {at} {row.port} {tls_name(self.house, row, member)}")

    def asked_as_admin(self, address: str) -> list[Asked]:
        """What an address on the local network must answer an administrator, besides what it answers anybody."""
        member = next(each for each in self.house.members if address in each.addresses)
        rows = [row for row in rows_at(self.house, member) if (row.over, row.source) == ("lan", "admin")]
        return [self._asked(row, member, address) for row in rows]

    def forbidden(self, gateway: Member) -> tuple[Forbidden, ...]:
        """What a gateway's container must not reach."""
        states = self.states()
        return forbidden_to_container(
            self.house,
            gateway,
            self.subject.asked,
            {name: state.listeners for name, state in states.items()},
            {name: state.vpn for name, state in states.items()},
            self.world(),
            (*routers(states[gateway.name]["routers"].text), CONTAINER_ROUTER, HOST_ALIAS),
        )

    def granted(self, source: Member, other: Member) -> list[Asked]:
        """What `other` must answer `source` over the VPN: by address, and by name where names of the VPN are known."""
        names = () if source.is_server else (self.house.vpn_name(other),)
        vpn = self.state(other.name).vpn
        return [
            self._asked(row, other, at)
            for row in rows_over_vpn(self.house, source, other)
            for at in (*served_at(row, vpn), *names)
        ]

    def closed(self, source: Member, other: Member) -> dict[str, int]:
        """What `other` must not answer `source` over the VPN, as target -> port."""
        state = self.state(other.name)
        ports = closed_over_vpn(self.house, source, other, state.listeners)
        return {target(at, port): port for at in state.vpn for port in sorted(ports)}

    def own(self, member: Member) -> list[Asked]:
        """What a host must answer itself."""
        found = []
        for row in rows_at(self.house, member):
            at = list(member.addresses)
            if row.over == "vpn":
                elsewhere = self.house.served_elsewhere(row, member)
                at = list(served_at(row, self.state(member.name).vpn)) if elsewhere else ["127.0.0.1"]
            if row.id == "headscale":
                at.append(self.house.headscale_name)
            found += [self._asked(row, member, each) for each in at]
        return found

    def at_world(self) -> list[str]:
        """`world`, as targets of a probe."""
        return sorted({target(address, port) for address, port in self.world()})

    def authority(self) -> str:
        """The root certificate that the first gateway's host trusts (PEM)."""
        return self.state(self.house.gateways[0].name)["root"].text

    def name_servers(self) -> list[str]:
        """Name servers of the world; only a lab has some that nobody is bothered with."""
        return [str(WORLD_V4), str(WORLD_V6)] if self.subject.lab else []

    def asked_of_host(self, member: Member) -> dict[str, Any]:
        """What a host's probe tries (tests/verify/probes/network.py)."""
        services, closed, peers = list[str](), set[str](), set[str]()
        spoken: dict[str, list[str]] = {}
        self.states()
        for other in self.subject.asked:
            if other != member:
                granted = self.granted(member, other)
                for each in granted:
                    by = speaker(each.row, member)
                    (spoken.setdefault(by, []) if by else services).append(each.item)
                closed |= self.closed(member, other).keys()
                if granted:
                    peers |= set(self.state(other.name).vpn[:1])
        services += [each.item for each in self.own(member)]
        out = {
            "connect": [*self.at_world(), *self.ways_out(member)],
            "dns": self.name_servers(),
        }
        lookup = {"resolve": [DNS_NAME]} if self.subject.lab else {}
        users = service_users(self.house, member)
        # The system's own name service may answer root: time servers have names.
        accounts = {user: dict(out) if user == "root" else {**out, **lookup} for user in users}
        for user, items in spoken.items():
            accounts[user]["service"] = items
        return {
            "connect": sorted({*closed, *([] if member.is_server else self.at_world())}),
            "service": services,
            "authority": self.authority(),
            "ping": sorted(peers),
            "resolve": [] if member.is_server else [self.house.vpn_name(self.house.gateway_of(member.user))],
            "as": accounts,
        }
