"""Checks of the control server: the policy in force, its nodes, and its running configuration."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from plan.devices.vpn_nodes import Record, Standing, node_of, parse_record, standing
from plan.engine.errors import STRANGE
from plan.headscale.packet_filters import (
    difference_of,
    house_filter,
    node_passages,
    packet_filter,
    said,
    server_passages,
)
from plan.headscale.policy import policy
from plan.house.house import House, Member
from plan.verification import Node, nodes
from tests.verify.ledger import Check
from tests.verify.probing import Probing
from tests.verify.remote import ProbeError
from tests.verify.state import Section


def test_policy(member: Member, probing: Probing, check: Check) -> None:
    """The packet filter that Headscale has sent to a node lets in what the access table says, and nothing else.

    The node itself is asked, because the running server may differ from the file. Ports that the firewall closes count
    too. A node without a connection to the control server has an earlier filter, which proves nothing.
    """
    vpn = {each.name: probing.state(each.name).vpn for each in probing.subject.asked}
    whole = len(vpn) == len(probing.house.members)
    if probing.house.coordinator.name in vpn:
        vpn |= {name: node.addresses for name, node in who_is_who(probing).devices.items()}
    wanted = packet_filter(probing.house, member, vpn)
    # With --only, a part of the house is not asked, so its addresses are not known.
    known = {at for addresses in vpn.values() for at in addresses}

    def wrong(told: Section) -> str:
        netmap = told.json()
        if not netmap:
            return told.text[-200:] or "the control server has told it nothing"
        found = node_passages(netmap.get("PacketFilter"))
        return difference_of(found if whole else frozenset(each for each in found if each[0] in known), wanted)

    told, hears = probing.netmap(member.name, lambda section: not wrong(section))
    check(
        not wrong(told) and hears,
        source=member.name,
        target="policy",
        expected=f"is connected to the control server, and lets in: {said(wanted)}",
        observed=(wrong(told) or "as expected")
        + ("" if hears else "; the control server has no connection to this node, so it may have an earlier policy"),
        remedy=f"on {probing.house.coordinator.name}: systemctl status headscale; run the deployment again",
    )


def test_policy_served(coordinator: Member, probing: Probing, check: Check) -> None:
    """The control server's policy agrees with the access table: its file, and the rules that it sends out now.

    For minutes, nodes keep the rules that they got last. So right rules on a node do not show that the control server
    is right.
    """
    state, house = probing.state(coordinator.name), probing.house
    found = who_is_who(probing)
    vpn = {name: node.addresses for name, node in (*found.hosts.items(), *found.devices.items())}
    wanted, section = house_filter(house, vpn), state["policy served"]
    served = server_passages(section.json()) if section.status == 0 else frozenset()
    as_planned = state["policy file"].json() == policy(house)
    wrong = difference_of(served, wanted)
    check(
        as_planned and section.status == 0 and not wrong,
        source=coordinator.name,
        target="policy",
        expected=f"/etc/headscale/policy.json is as planned, and the running server sends out: {said(wanted)}",
        observed=f"the file {'is as planned' if as_planned else 'holds something else'}; "
        + (
            "the running server does not answer with its rules"
            if section.status
            else f"sent out: {wrong or 'as planned'}"
        ),
        remedy=f"run the deployment, which writes it again; on {coordinator.name}: systemctl status headscale",
    )


def test_nodes(coordinator: Member, probing: Probing, check: Check) -> None:
    """The nodes of the VPN are exactly the hosts and designated devices, with their tags or owners.

    A device that has not joined, or whose key has ended, is only mentioned: that is its owner's decision.
    """
    state, house = probing.state(coordinator.name), probing.house
    found = who_is_who(probing)
    known, now = complaints(found, house), datetime.now(UTC)
    devices = [device.name for device in house.devices]
    apart = [name for name in devices if name not in found.devices]
    ended = [name for name, node in found.devices.items() if node.expired(now)]
    check(
        state["nodes"].status == 0 and not known,
        source=coordinator.name,
        target="VPN",
        expected=f"exactly these nodes: {', '.join(member.name for member in house.members)}"
        + (f", and of the devices {', '.join(devices)} those that have joined" if devices else ""),
        observed=state["nodes"].text[-300:] or "headscale does not answer"
        if state["nodes"].status
        else "; ".join(known)
        or f"as expected; not joined: {', '.join(apart) or 'none'}; key has ended: {', '.join(ended) or 'none'}",
        remedy="; ".join(remedies(found, house, probing.subject.file))
        or f"on {coordinator.name}: headscale nodes list; then run the deployment again",
    )


def who_is_who(probing: Probing) -> Standing:
    """All nodes of Headscale, sorted into hosts, devices and strangers. A host is known by the addresses that it
    has."""
    state = probing.state(probing.house.coordinator.name)
    own = {each.name: vpn for each in probing.subject.asked if (vpn := probing.state(each.name).vpn)}
    try:
        nodes = [node_of(each) for each in state["nodes"].json() or ()]
    except STRANGE as error:
        raise ProbeError(f"the list of nodes on {probing.house.coordinator.name} cannot be read: {error}") from error
    return standing(probing.house, nodes, _record(probing), own)


def _record(probing: Probing) -> Record:
    try:
        return parse_record(probing.state(probing.house.coordinator.name)["devices"].text)
    except ValueError as error:
        raise ProbeError(str(error)) from error


def complaints(found: Standing, house: House) -> list[str]:
    """What is wrong with the nodes, in words."""
    wanted, now = nodes(house), datetime.now(UTC)
    wrong = [f"{name} is missing" for name in wanted if name not in found.hosts]
    for name, node in found.hosts.items():
        if Node(node.tags, node.user) != wanted[name]:
            wrong.append(f"{name} belongs to {node.owner or 'nobody'}")
        if node.given_name != name:
            wrong.append(f"{name} is called {node.given_name}")
        if node.expired(now):
            wrong.append(f"{name} has expired")
    wrong += [f"{each.node.given_name} (of {each.node.owner}): {each.why}" for each in found.strangers]
    return wrong + [f"{node.given_name} (of {node.owner}) may be a host that was not asked" for node in found.unsure]


def remedies(found: Standing, house: House, inventory: str) -> list[str]:
    """The commands that remove each stranger."""
    designated = {device.name for device in house.devices}
    steps = [
        f"pyinfra {shlex.quote(inventory)} playbooks/device_remove.py --data device={each.device}"
        if each.device and each.device not in designated
        else f"on {house.coordinator.name}: headscale nodes delete --identifier {each.node.id}"
        for each in found.strangers
    ]
    return [*steps, "or run the deployment, which removes them"] if steps else []


def test_config(coordinator: Member, probing: Probing, check: Check) -> None:
    """The running control server uses only its own relay, asks no other server, and keeps its own interfaces closed."""
    section = probing.state(coordinator.name)["headscale"]
    config, house = section.json() or {}, probing.house
    state = probing.state(coordinator.name)
    try:
        file = yaml.safe_load(state["headscale file"].text) or {}
    except yaml.YAMLError:
        file = {}
    # The times of the configuration, of the policy, and of the start.
    *written, started = state["headscale since"].text.replace("@", "").split() or [""]
    relay, claims = config.get("DERP", {}), dict[str, bool]()
    if config:
        claims = {
            "no relays of others": not relay.get("URLs") and not relay.get("Paths") and not relay.get("DERPMap"),
            "no relay list fetched": relay.get("AutoUpdate") is False,
            "its own relay, for its own nodes": relay.get("ServerEnabled") and relay.get("ServerVerifyClients"),
            "metrics and debugging on loopback": str(config.get("MetricsAddr")).startswith("127.0.0.1:"),
            "gRPC on loopback, not insecure": str(config.get("GRPCAddr")).startswith("127.0.0.1:")
            and config.get("GRPCAllowInsecure") is False,
            "no logs sent": config.get("LogTail", {}).get("Enabled") is False,
            "no names but the nodes' own": not config["DNSConfig"].get("ExtraRecords")
            and not config["DNSConfig"].get("ExtraRecordsPath"),
            "no name servers of others": not any((config["DNSConfig"].get("Nameservers") or {}).values()),
            "its certificate from the house's CA": not config.get("ACMEURL")
            and str(config.get("TLS", {}).get("CertPath")).startswith("/etc/headscale/tls/"),
            "the table's policy": config.get("Policy", {}).get("Path") == "/etc/headscale/policy.json",
            # The running server does not tell this, so it comes from the file.
            "no update check": file.get("disable_check_updates") is True,
            "started after its configuration and its policy were written": len(written) == 2
            and all(moment.isdigit() for moment in (*written, started))
            and max(map(int, written)) <= int(started),
            "its own name": config.get("ServerURL") == f"https://{house.headscale_name}:{house.port('headscale')}",
        }
    untrue = [claim for claim, holds in claims.items() if not holds]
    check(
        bool(claims) and not untrue,
        source=coordinator.name,
        target="itself",
        expected=", ".join(claims) or "the running server's configuration",
        observed=f"not true: {', '.join(untrue)}"
        if untrue
        else "as expected"
        if claims
        else "headscale does not answer",
        remedy=f"run the deployment again; on {coordinator.name}: systemctl status headscale",
    )


def test_keys(coordinator: Member, probing: Probing, check: Check) -> None:
    """There is no key that nobody needs: a join key lets a machine into the VPN, an API key gives control of the house.

    Join keys of enrolment pages are recorded, and work once and for hours. The house needs no API key.
    """
    state, now = probing.state(coordinator.name), time.time()
    sections = (state["keys"], state["api keys"])
    recorded = {key for minted in _record(probing).values() for key in minted.keys}
    usable = usable_keys(state["keys"].json() or [], recorded, now)
    usable += [f"API key {each['id']}" for each in state["api keys"].json() or [] if _lasts(each, now)]
    unanswered = "; ".join(each.text or "headscale does not answer" for each in sections if each.status)
    check(
        not unanswered and not usable,
        source=coordinator.name,
        target="VPN",
        expected="no join key that can still be used, except those of enrolment pages; no API key",
        observed=", ".join(usable) or unanswered or "none",
        remedy=f"on {coordinator.name}: headscale preauthkeys list, headscale preauthkeys expire --id NUMBER; "
        "headscale apikeys list, headscale apikeys expire --id NUMBER",
    )


def _lasts(key: Mapping[str, Any], now: float) -> bool:
    return float((key.get("expiration") or {}).get("seconds", now + 1)) > now


def usable_keys(keys: Iterable[Mapping[str, Any]], recorded: Collection[int], now: float) -> list[str]:
    """Keys that can still be used and should not be there, in words. `keys`: from `headscale preauthkeys list -o json`.
    A key in `recorded` may wait for its single use."""
    return [
        f"key {each['id']}{', which can be used again and again' if each.get('reusable') else ''}"
        for each in keys
        if _lasts(each, now) and (each.get("reusable") or not (each.get("used") or int(each["id"]) in recorded))
    ]
