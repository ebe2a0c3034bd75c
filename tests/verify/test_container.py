"""Checks from inside the gateway's container: Ollama answers. All other targets, which answer others, do not."""

from __future__ import annotations

import pytest

from plan.house.house import Member
from plan.verification import service_of
from tests.verify.expected import target
from tests.verify.ledger import Check, Way
from tests.verify.probes.network import DNS_NAME
from tests.verify.probing import Probing
from tests.verify.test_egress import outside

EGRESS = "run the deployment again; then on the gateway: nft list chain inet private_ai output (the rules for openclaw)"


def test_ollama(gateway: Member, probing: Probing, check: Check) -> None:
    """Inside the container, every model server of OpenClaw's present configuration answers with Ollama's version."""
    found = probing.container(gateway.name)["providers"]
    servers = probing.house.with_role("model_hosts")
    answers = [each["status"] == 200 and bool(each["version"]) for each in found]
    check(
        len(found) == len(servers) and all(answers),
        source=f"container on {gateway.name}",
        target=" ".join(member.name for member in servers),
        expected="Ollama's version from every model server of OpenClaw's present configuration",
        observed=", ".join(f"{each['url']}: {each.get('error') or each['version']}" for each in found) or "none",
        remedy="on the model host: systemctl status ollama ollama-vpn.socket; then tailscale status on both",
        ways=[Way(f"{member.name}/ollama", good, True) for member, good in zip(servers, answers, strict=False)],
    )


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_closed(gateway_group: tuple[Member, str], family: str, probing: Probing, check: Check) -> None:
    """Inside the container only Ollama can be reached: no internet, no local network, no other host or service.

    Somebody who takes over the agent with a clever message is still inside the container. The check also shows that
    each address answers others.
    """
    gateway, group = gateway_group
    wanted = [
        each
        for each in probing.forbidden(gateway)
        if each.group == group and (":" in each.address) == (family == "IPv6")
    ]
    if group == "internet":
        there = outside(probing, ":" if family == "IPv6" else ".")
        wanted = [each for each in wanted if target(each.address, each.port) in there]
    if not wanted:
        pytest.skip(f"nothing to try: no {family} address in the group {group!r}")
    tried = {target(each.address, each.port): each for each in wanted}
    seen = {at: probing.container(gateway.name)["connect"][at] for at in tried}
    witnesses = {
        name: {} if name not in {each.witness for each in wanted} else ask()["connect"]
        for name, ask in (("outside", probing.outside), ("controller", probing.controller))
    }
    if group == "internet":
        witnesses["outside"] = probing.let_in()
    # A target that answers nobody proves nothing. For the witness "listener", the host's list of sockets is enough.
    dead = [
        at for at, each in tried.items() if each.witness != "listener" and witnesses[each.witness].get(at) != "open"
    ]
    reached = [at for at, outcome in seen.items() if outcome == "open"]
    check(
        not reached and not dead,
        source=f"container on {gateway.name}",
        target=group,
        expected=f"none of these can be reached, although they answer others: {', '.join(tried)}",
        observed=f"reached: {reached or 'none'}; these answer nobody: {dead or 'none'}",
        remedy=EGRESS if reached else "repair the targets that answer nobody, and run again",
        ways=[Way(_service(probing, each.address, each.port), at in reached, False) for at, each in tried.items()],
    )


def _service(probing: Probing, address: str, port: int) -> str:
    """The service at an address and port in words; for a host of the house with the host's name."""
    for member in probing.subject.asked:
        if address in (*member.addresses, *probing.state(member.name).vpn):
            return service_of(probing.house, member, port)
    return f"{address} {port}/tcp"


def test_names(gateway: Member, probing: Probing, check: Check) -> None:
    """Inside the container no outside name is known, and no name server can be reached.

    A name server that answers is a way out: a name in a question can carry parts of a conversation.
    """
    seen = probing.container(gateway.name)
    names, servers = seen["lookup"][DNS_NAME], seen["dns"]
    witness = probing.outside()["dns"]
    answered = [server for server, outcome in servers.items() if outcome == "answered"]
    dead = [server for server in servers if witness.get(server) != "answered"]
    check(
        not names and not answered and not dead,
        source=f"container on {gateway.name}",
        target="DNS",
        expected=f"no address for {DNS_NAME}"
        + (f", no answer from the name servers {', '.join(servers)}, which answer others" if servers else ""),
        observed=f"{names or 'no address'}; answered: {answered or 'none'}; these answer nobody: {dead or 'none'}",
        remedy=EGRESS,
        ways=[Way("DNS", bool(names or answered), False)],
        refused=len(servers) - len(answered),
    )
