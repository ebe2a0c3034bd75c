"""Reads from tailscaled what a host itself knows about the VPN."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import AGAIN, STRANGE, shown
from plan.engine.ip_addresses import node_addresses
from plan.headscale.packet_filters import Passage, node_passages
from plan.tailscale.preferences import still_on

_CUT = "--- next"


@dataclass(frozen=True)
class TailscaleState:
    """`backend`: tailscaled's state; "" when tailscaled does not run. `addresses`: IPv4 first. `still_on`: options that
    a run has to pass to `tailscale set`, see plan/tailscale/preferences.py. `serves`: whether tailscaled itself answers
    on ports of this node (`tailscale serve`)."""

    backend: str
    control: str
    hostname: str
    tags: frozenset[str]
    addresses: tuple[str, ...]
    accept_dns: bool
    still_on: tuple[str, ...]
    serves: bool

    @property
    def joined(self) -> bool:
        """Whether the host has joined. After a start its state is "Starting" until it has reached a relay."""
        return self.backend in ("Running", "Starting") and bool(self.addresses)


class Tailscale(FactBase[TailscaleState]):
    """The state of tailscaled on this host. Cost: one remote command."""

    def command(self) -> str:
        return (
            "test -S /run/tailscale/tailscaled.sock && command -v tailscale >/dev/null && "
            f"tailscale status --json --peers=false && printf '\\n%s\\n' '{_CUT}' && tailscale debug prefs && "
            f"printf '\\n%s\\n' '{_CUT}' && {{ tailscale serve status --json || echo null; }} || true"
        )

    @staticmethod
    def default() -> TailscaleState:
        return TailscaleState("", "", "", frozenset(), (), False, (), False)

    def process(self, output: list[str]) -> TailscaleState:
        parts = "\n".join(output).split(_CUT)
        if len(parts) == 1:
            return self.default()
        try:
            status, prefs, serves = (json.loads(part) for part in parts)
            return TailscaleState(
                backend=str(status.get("BackendState", "")),
                control=str(prefs.get("ControlURL", "")),
                hostname=str(prefs.get("Hostname", "")),
                tags=frozenset(map(str, (status.get("Self") or {}).get("Tags") or ())),
                # The addresses become lines of units on other hosts, so they are checked here.
                addresses=node_addresses(status.get("TailscaleIPs")),
                accept_dns=bool(prefs.get("CorpDNS")),
                still_on=still_on(prefs),
                serves=bool(serves),
            )
        except STRANGE as error:
            raise FactProcessError(f"tailscale's answer is not understood: {shown(error)}. {AGAIN}") from error


class NodeFilter(FactBase[frozenset[Passage] | None]):
    """What this node lets in by the latest policy that Headscale has sent to it; None when it has got none yet. Cost:
    one remote command."""

    def command(self) -> str:
        return "tailscale debug netmap 2>/dev/null || true"

    @staticmethod
    def default() -> None:
        return None

    def process(self, output: list[str]) -> frozenset[Passage] | None:
        try:
            told = json.loads("\n".join(output) or "null")
            return None if told is None else node_passages(told.get("PacketFilter"))
        except STRANGE as error:
            raise FactProcessError(f"tailscale's network map is not understood: {shown(error)}. {AGAIN}") from error
