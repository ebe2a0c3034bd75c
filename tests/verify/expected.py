"""Which connections between the hosts of a house must be answered, and which must not."""

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

#: The address at which pasta, Podman's network program, can show a container its host (podman-run(1), --network).
HOST_ALIAS = "169.254.1.2"


@dataclass(frozen=True)
class Asked:
    """A service of the access table that a probe asks. `at`: its address or name. `item`: the question in the form of
    tests/verify/probes/network.py."""

    row: Row
    member: Member
    at: str
    item: str


def target(address: str, port: int) -> str:
    return f"{address} {port}"


class Expected:
    """Calculates the expectations from the access table and from the hosts' own answers. `state`: asks a host, by its
    name, for its state. `world`: addresses and ports outside the house that a service must not reach."""

    subject: Subject
    house: House
    state: Once[HostState]
    world: Once[tuple[tuple[str, int], ...]]

    def states(self) -> dict[str, HostState]:
        """The states of all hosts that are asked, read in parallel."""
        names = [member.name for member in self.subject.asked]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(self.state, names), strict=True))

    def ways_out(self, member: Member) -> dict[str, str]:
        """The TCP targets outside the house that rows of the access table let root of a host reach: target -> row's
        id."""
        rows = ways_out(self.house, member)
        return {target(row.target, row.port): row.id for row in rows if row.protocol == "tcp"}

    def asked_outside(self, address: str) -> list[Asked]:
        """The services at an address on the local network that must answer everybody in their own protocol."""
        member = next(each for each in self.house.members if address in each.addresses)
        rows = [row for row in rows_at(self.house, member) if (row.over, row.source) == ("lan", "lan")]
        return [self._asked(row, member, address) for row in rows]

    def _asked(self, row: Row, member: Member, at: str) -> Asked:
        return Asked(row, member, at, f"{kind(row)} {at} {row.port} {tls_name(self.house, row, member)}")

    def asked_as_admin(self, address: str) -> list[Asked]:
        """The further services at an address on the local network that must answer an administrator."""
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
        """The services of `other` that must answer `source` over the VPN: by address, and for clients also by name."""
        names = () if source.is_server else (self.house.vpn_name(other),)
        vpn = self.state(other.name).vpn
        return [
            self._asked(row, other, at)
            for row in rows_over_vpn(self.house, source, other)
            for at in (*served_at(row, vpn), *names)
        ]

    def closed(self, source: Member, other: Member) -> dict[str, int]:
        """The ports of `other` that must not answer `source` over the VPN: target -> port."""
        state = self.state(other.name)
        ports = closed_over_vpn(self.house, source, other, state.listeners)
        return {target(at, port): port for at in state.vpn for port in sorted(ports)}

    def own(self, member: Member) -> list[Asked]:
        """The services of a host that must answer the host itself."""
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
        """`world` in the form of a probe's targets."""
        return sorted({target(address, port) for address, port in self.world()})

    def authority(self) -> str:
        """The root certificate that the first gateway's host trusts (PEM)."""
        return self.state(self.house.gateways[0].name)["root"].text

    def name_servers(self) -> list[str]:
        """Name servers outside the house. Empty outside a lab, because we do not want to use a stranger's servers."""
        return [str(WORLD_V4), str(WORLD_V6)] if self.subject.lab else []

    def asked_of_host(self, member: Member) -> dict[str, Any]:
        """The job for the probe on a host (tests/verify/probes/network.py)."""
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
        # Root is not asked to resolve a name: the system's own name service may do that for it, since time servers have
        # names.
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
