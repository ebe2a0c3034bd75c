"""Browsers that OpenClaw has let in or that wait for it, as `openclaw devices list --json` shows them (2026.9.6)."""

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
    """One browser. `id` is the paired device's, or of a request that waits; `address` is where it came from.

    All but `id` is harmless to a terminal, whatever a browser says of itself.
    """

    id: str
    name: str
    address: str
    waits: bool
    since: datetime | None
    #: OpenClaw's number for the browser, which outlives its requests.
    device: str = ""
    #: What the browser says it runs on, and what it wants to be. People's browsers are operators.
    platform: str = ""
    role: str = ""
    #: Host of the gateway that knows it.
    gateway: str = ""

    @property
    def shown_id(self) -> str:
        """The id as it may be shown."""
        return line(self.id)

    @property
    def nameable(self) -> bool:
        """Whether the id can be an argument of OpenClaw's command: no option, and nothing to a shell or systemd-run."""
        return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@=+/-]{0,199}", self.id) is not None


def parse_pairings(text: str, gateway: str) -> tuple[Pairing, ...]:
    """Paired browsers of a gateway, then those that wait. Raises ValueError when the text is something else."""
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
    """Browsers that came from an address in the VPN which no node has any more. `kept`: the addresses of all nodes."""
    known = set(kept)
    return tuple(
        each for each in pairings if each.address and is_vpn(house, each.address) and each.address not in known
    )


def _pairing(raw: dict[str, Any], number: str, since: float | None, waits: bool) -> Pairing:
    name = raw.get("operatorLabel") or raw.get("displayName") or raw.get("clientId") or raw.get("deviceId") or ""
    # An IPv4 address may come written as one of IPv6.
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
