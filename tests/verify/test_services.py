"""On each host: its services run, listen where the access table says, behind a firewall, in our network only."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
import testinfra.host

from plan.checks import misplaced, missing, nodes
from plan.house import Member
from tests.verify.ledger import Check
from tests.verify.probing import Probing
from tests.verify.state import STORE, chain_policy, status_fields

UNITS = {
    "coordinator": ("headscale",),
    "model_hosts": ("ollama",),
}
EVERYWHERE = ("private-ai-firewall", "tailscaled")
#: A run of the deployment renews a certificate under 30 days; fewer than this means that none has run for long.
FEWEST_DAYS = 14


def test_units_run_and_start_at_boot(
    member: Member, machine: testinfra.host.Host, probing: Probing, check: Check
) -> None:
    units = [*EVERYWHERE, *(unit for role in sorted(member.roles) for unit in UNITS.get(role, ()))]
    if "model_hosts" in member.roles and member != probing.house.gateway:
        units.append("ollama-vpn.socket")
    bad = []
    for unit in units:
        properties = machine.service(unit).systemd_properties
        seen = (properties.get("ActiveState"), properties.get("UnitFileState"))
        if seen != ("active", "enabled"):
            bad.append(f"{unit} is {seen[0]} and {seen[1] or 'not there'}")
    check(
        not bad,
        source=member.name,
        target="itself",
        expected=f"active and enabled: {', '.join(units)}",
        observed="; ".join(bad) or "so",
        remedy=f"on {member.name}: systemctl status UNIT, journalctl --unit UNIT; then run the deployment again",
    )


def test_services_listen_where_the_table_says(member: Member, probing: Probing, check: Check) -> None:
    state = probing.state(member.name)
    wrong = misplaced(probing.house, state.listeners)
    wrong += [f"nothing at {each}" for each in missing(probing.house, member, state.listeners, state.vpn)]
    check(
        not wrong,
        source=member.name,
        target="itself",
        expected="every row of the access table has its listener; Ollama only on loopback and in the VPN, Headscale's "
        "own ports only on loopback",
        observed="; ".join(wrong) or "so",
        remedy=f"run the deployment again; then on {member.name}: ss -Hltunp",
    )


def test_the_firewall_drops_by_default(member: Member, probing: Probing, check: Check) -> None:
    section = probing.state(member.name)["firewall"]
    ruleset = section.json() if section.status == 0 else None
    seen = {chain: chain_policy(ruleset, chain) for chain in ("input", "forward", "output")}
    check(
        seen["input"] == "input drop" and all(seen.values()),
        source=member.name,
        target="itself",
        expected="table inet private_ai with chains input (policy drop), forward and output, each at its hook",
        observed=seen if ruleset else "no such table",
        remedy=f"run the deployment again; on {member.name}: systemctl status private-ai-firewall",
    )


def test_only_our_own_relay_is_known(member: Member, probing: Probing, check: Check) -> None:
    found = probing.state(member.name)["relays"].json() or {}
    relays = [node.get("HostName") for region in (found.get("Regions") or {}).values() for node in region["Nodes"]]
    check(
        relays == [probing.house.headscale_name],
        source=member.name,
        target="itself",
        expected=f"one relay: {probing.house.headscale_name}",
        observed=relays or "none",
        remedy=f"see derp: in /etc/headscale/config.yaml on {probing.house.coordinator.name}; run the deployment again",
    )


def test_the_nodes_are_the_hosts_of_the_inventory(coordinator: Member, probing: Probing, check: Check) -> None:
    section = probing.state(coordinator.name)["nodes"]
    wanted = {name: f"{sorted(node.tags) or node.user}" for name, node in nodes(probing.house).items()}
    found = section.json() or []
    seen = [(str(each["name"]), f"{sorted(each.get('tags') or []) or each['user']['name']}") for each in found]
    check(
        sorted(seen) == sorted(wanted.items()),
        source=coordinator.name,
        target="VPN",
        expected=f"exactly these nodes: {sorted(wanted.items())}",
        observed=sorted(seen) if section.status == 0 else section.text or "headscale does not answer",
        remedy="on the coordinator: headscale nodes list; remove a stranger with headscale nodes delete; deploy",
    )


@pytest.mark.parametrize("service", ["headscale", "gateway"])
def test_certificate(service: str, probing: Probing, check: Check) -> None:
    house = probing.house
    member = house.coordinator if service == "headscale" else house.gateway
    if member.name not in probing.subject.scope:
        pytest.skip(f"{member.name} is left out by --only")
    seen = probing.state(member.name)[f"certificate {service}"].text
    end = re.search(r"notAfter=(.+)", seen)
    days = int((_date(end[1]) - time.time()) // 86400) if end else None
    check(
        "Verify return code: 0 (ok)" in seen and days is not None and days >= FEWEST_DAYS,
        source=member.name,
        target="itself",
        expected=f"{service}'s certificate: chain to the house's CA, right name, {FEWEST_DAYS} days left",
        observed=("no certificate" if days is None else f"{days} days left") + f"; {' / '.join(seen.splitlines())}",
        remedy="run the deployment again: it signs anew what does not fit or ends within 30 days",
    )


def _date(text: str) -> float:
    return datetime.strptime(text.strip(), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


def test_model_files_match_their_digests(model_host: Member, probing: Probing, check: Check) -> None:
    # Reads every byte of the models: some seconds for each 10 GB.
    said = probing.remote.run(
        model_host.name,
        f"cd {STORE}/manifests && find . -type f -exec sha256sum {{}} +; cd {STORE}/blobs && sha256sum sha256-*",
        seconds=1800,
    )
    lines = [line.split(None, 1) for line in said.stdout.splitlines()]
    blobs = {name.strip(): digest for digest, name in lines if name.startswith("sha256-")}
    manifests = {_model(name): digest for digest, name in lines if name.startswith("./")}
    # A download under way is not served.
    bad = [name for name, digest in blobs.items() if name != f"sha256-{digest}" and "-partial" not in name]
    section = probing.state(model_host.name)["models"]
    served = {each["name"]: each["digest"] for each in (section.json() or {}).get("models", ())}
    check(
        bool(served) and served == manifests and bool(blobs) and not bad,
        source=model_host.name,
        target="itself",
        expected="Ollama serves the manifests on disk, and every file has the digest in its name",
        observed=f"served: {served or 'none'}; on disk: {manifests or 'none'}; {len(blobs)} files, damaged: {bad}",
        remedy=f"on {model_host.name}: remove the damaged files from {STORE}/blobs; run the deployment again",
    )


def _model(path: str) -> str:
    """./REGISTRY/NAMESPACE/NAME/TAG as Ollama says it: NAME:TAG for its own library."""
    name, _, tag = path.removeprefix("./").rpartition("/")
    return f"{name.removeprefix('registry.ollama.ai/').removeprefix('library/')}:{tag}"


def test_the_container_is_caged(gateway: Member, probing: Probing, check: Check) -> None:
    state = probing.state(gateway.name)
    found = (state["container"].json() or [{}])[0]
    settings, process = found.get("HostConfig", {}), state["process"].text
    kernel = status_fields(process)
    root = next((line for line in process.splitlines() if " / / " in line), "")
    account = state["account"].text
    claims = {
        "the unit is active": state["unit"].text == "active",
        "it runs as openclaw, not root": account not in ("", "0") and kernel.get("Uid", "").split()[:1] == [account],
        "user namespace": settings.get("UsernsMode") == "private",
        "read-only root": bool(settings.get("ReadonlyRootfs")) and re.search(r" / / ro[, ]", root) is not None,
        "no capabilities": not settings.get("CapAdd")
        and not found.get("BoundingCaps")
        and {kernel.get(name) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16},
        "no new privileges": kernel.get("NoNewPrivs") == "1",
        "not privileged": settings.get("Privileged") is False,
    }
    untrue = [claim for claim, holds in claims.items() if not holds]
    check(
        not untrue,
        source=gateway.name,
        target="container",
        expected=", ".join(claims),
        observed=f"not so: {', '.join(untrue)} ({_cage(kernel, root)})" if untrue else "so",
        remedy="run the deployment again; then on the gateway: "
        "systemctl --user --machine=openclaw@ status openclaw, /etc/containers/systemd/users/",
    )


def _cage(kernel: dict[str, str], root: str) -> str:
    names = ("Uid", "CapEff", "CapBnd", "NoNewPrivs")
    said = [f"{name} {kernel[name]}" for name in names if name in kernel]
    return "; ".join([*said, root]) if said else "the container does not run"
