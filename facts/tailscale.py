"""A host's own view of its place in the VPN."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.preferences import still_on

_CUT = "--- next"


@dataclass(frozen=True)
class TailscaleState:
    """`backend` is tailscaled's state ("Running" when joined, "" when there is no daemon). `addresses`: IPv4 first.
    `still_on`: options of `tailscale set` that are needed; see plan/preferences.py. `serves`: whether tailscaled itself
    answers on ports of this node (`tailscale serve`)."""

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
        return self.backend == "Running" and bool(self.addresses)


class Tailscale(FactBase[TailscaleState]):
    """What tailscaled says of this host. Cost: one remote command."""

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
            on = still_on(prefs)
        except (ValueError, KeyError) as error:
            raise FactProcessError(f"tailscale's answer is not understood: {error!r}") from error
        self_ = status.get("Self") or {}
        return TailscaleState(
            backend=status.get("BackendState", ""),
            control=prefs.get("ControlURL", ""),
            hostname=prefs.get("Hostname", ""),
            tags=frozenset(self_.get("Tags") or ()),
            addresses=tuple(sorted(status.get("TailscaleIPs") or (), key=lambda address: ":" in address)),
            accept_dns=bool(prefs.get("CorpDNS")),
            still_on=on,
            serves=bool(serves),
        )
