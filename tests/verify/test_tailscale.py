"""Checks of each node: it has joined the house's own control server, knows only the house's relay, and reports to
nobody else."""

from __future__ import annotations

from datetime import UTC, datetime

from plan.house.house import Member
from plan.tailscale.preferences import OFF, still_on
from tests.verify.ledger import Check
from tests.verify.probing import Probing

#: A node's key that is valid for fewer days is a warning.
DAYS = 14


def test_joined(member: Member, probing: Probing, check: Check) -> None:
    """A host is in the house's VPN, through the house's control server, and sends no logs and no update checks."""
    state, house = probing.state(member.name), probing.house
    status, preferences = state["tailscale"].json() or {}, state["preferences"].json() or {}
    environment = state.environment("tailscaled")
    control = f"https://{house.headscale_name}:{house.port('headscale')}"
    try:
        on = still_on(preferences)
    except KeyError as error:
        on = (f"not known: {error}",)
    claims = {
        "running": status.get("BackendState") == "Running",
        f"joined at {control}": preferences.get("ControlURL") == control,
        "no logs sent": environment.get("TS_NO_LOGS_NO_SUPPORT") == "true"
        and "--no-logs-no-support" in environment.get("FLAGS", ""),
        "all features off that the house does not use: " + " ".join(OFF): not on,
        "no port of its own (tailscale serve)": state["serves"].json() in ({}, None) and state["serves"].status == 0,
        "names of the VPN" if not member.is_server else "the system's own names": preferences.get("CorpDNS")
        is (not member.is_server),
    }
    untrue = [claim for claim, holds in claims.items() if not holds]
    days = _days(status.get("Self", {}).get("KeyExpiry"))
    soon = days is not None and days < DAYS
    check(
        not untrue and not soon,
        source=member.name,
        target="VPN",
        expected=f"{', '.join(claims)}; the node's key does not end within {DAYS} days",
        observed=(f"not true: {', '.join(untrue)}" if untrue else "as expected")
        + (f" (to be set: {' '.join(on)})" if on else "")
        + (f"; its key ends in {days} days" if days is not None else ""),
        remedy=f"run the deployment again; on {member.name}: tailscale status, journalctl --unit tailscaled"
        + ("; to renew its key: tailscale logout, then run the deployment again" if soon else ""),
        warn=not untrue and days is not None and days > 0,
    )


def _days(text: str | None) -> int | None:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).days if text else None


def test_relay(member: Member, probing: Probing, check: Check) -> None:
    """The only relay that a node knows is the house's own.

    A relay sees who talks to whom and when, but not the content.
    """
    found = probing.state(member.name)["relays"].json() or {}
    relays = [node.get("HostName") for region in (found.get("Regions") or {}).values() for node in region["Nodes"]]
    check(
        relays == [probing.house.headscale_name],
        source=member.name,
        target="relay",
        expected=f"one relay: {probing.house.headscale_name}",
        observed=relays or "none",
        remedy=f"look at derp: in /etc/headscale/config.yaml on {probing.house.coordinator.name}; run the deployment",
    )
