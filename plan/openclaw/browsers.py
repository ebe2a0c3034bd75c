"""Browsers that OpenClaw has approved, and browsers that wait, from `openclaw devices list --json` (2026.9.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from plan.engine.errors import STRANGE, shown
from plan.engine.terminal_text import line
from plan.house.house import House
from plan.verification import is_vpn


@dataclass(frozen=True)
class Pairing:
    """One browser. `id`: of the paired device, or of the request that waits. `address`: from which the browser asked.

    A browser chooses what it says of itself. All fields except `id` are harmless to a terminal.
    """

    id: str
    name: str
    address: str
    waits: bool
    since: datetime | None
    #: OpenClaw's id for the browser. It stays the same when the browser makes a new request.
    device: str = ""
    #: The platform that the browser names, and the role that it asks for. A person's browser asks for "operator".
    platform: str = ""
    role: str = ""
    #: The host of the gateway that has listed the browser.
    gateway: str = ""

    @property
    def shown_id(self) -> str:
        """The id, harmless to a terminal."""
        return line(self.id)

    @property
    def nameable(self) -> bool:
        """Whether the id can safely be an argument of OpenClaw's command: it is no option, and has no character that a
        shell or systemd-run reads in a special way."""
        return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@=+/-]{0,199}", self.id) is not None


def parse_pairings(text: str, gateway: str) -> tuple[Pairing, ...]:
    """The paired browsers of a gateway, then those that wait. Raises ValueError for text of another form."""
    try:
        raw = json.loads(text)
        if not all(isinstance(raw.get(kind), list) for kind in ("paired", "pending")):
            raise ValueError(f"not a list of pairings: {shown(text)}")
        found = [_pairing(each, each["deviceId"], each.get("approvedAtMs"), False) for each in raw["paired"]]
        found += [_pairing(each, each["requestId"], each.get("ts"), True) for each in raw["pending"]]
        return tuple(replace(each, gateway=gateway) for each in found)
    except STRANGE as error:
        raise ValueError(f"a pairing is not understood: {shown(error)}") from error


def orphans(house: House, pairings: Iterable[Pairing], kept: Iterable[str]) -> tuple[Pairing, ...]:
    """Browsers whose address in the VPN belongs to no node any more. `kept`: the addresses of all nodes."""
    known = set(kept)
    return tuple(
        each for each in pairings if each.address and is_vpn(house, each.address) and each.address not in known
    )


def _pairing(raw: dict[str, Any], number: str, since: float | None, waits: bool) -> Pairing:
    name = raw.get("operatorLabel") or raw.get("displayName") or raw.get("clientId") or raw.get("deviceId") or ""
    # OpenClaw may write an IPv4 address as an IPv6 address.
    address = str(raw.get("remoteIp") or "").removeprefix("::ffff:")
    return Pairing(
        id=str(number),
        name=line(name),
        address=line(address),
        waits=waits,
        since=datetime.fromtimestamp(since / 1000, UTC) if since else None,
        device=line(raw["deviceId"]),
        platform=line(raw.get("platform")),
        role=line(raw.get("role")),
    )
