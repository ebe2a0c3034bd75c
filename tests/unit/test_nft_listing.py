"""Rules of other programs are understood as the kernel does: what recorded and made-up rule sets refuse and pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plan.other_programs.nft_listing import owner, parse
from plan.other_programs.packet_fate import Packet, Passed, passed_on, refusing

RECORDED = Path(__file__).parent / "recorded"
LAN = frozenset({"eth0"})
VPN = frozenset({"tailscale0"})


def packet(port: str, **changes: Any) -> Packet:
    number, protocol = port.split("/")
    family = changes.get("family", "ip")
    here = {"ip": "192.168.1.10", "ip6": "fd00::10"}[family]
    values = {"hook": "input", "family": family, "protocol": protocol, "port": int(number), "interfaces": LAN}
    return Packet(**{**values, "to": frozenset({here}), **changes})


def refused_by(rules: str, port: str, **changes: Any) -> str:
    """The name of the chain that certainly refuses a packet, "" for none."""
    chain = refusing(packet(port, **changes), parse(rules.splitlines()))
    return chain.name if chain else ""


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_ufw_with_ssh_alone(family: str) -> None:
    """Recorded from ufw 0.36.2 with iptables-nft 1.8.11, after `ufw allow 22/tcp`."""
    rules = recorded("ufw")
    assert refused_by(rules, "22/tcp", family=family) == ""
    assert refused_by(rules, "443/tcp", family=family) == "INPUT"
    assert refused_by(rules, "41641/udp", family=family) == "INPUT"
    assert refused_by(rules, "18789/tcp", family=family, interfaces=VPN, to=frozenset()) == "INPUT"
    assert refused_by(rules, "443/tcp", family=family, hook="output", to=frozenset({"192.168.1.11"})) == ""


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("tcp dport 443 counter packets 0 bytes 0 accept", True),
        # The rule is for some addresses only. These may be the ones that need it.
        ("ip saddr 192.168.1.0/24 tcp dport 443 counter packets 0 bytes 0 accept", True),
        ("ip saddr 192.168.1.0/24 counter packets 0 bytes 0 accept", True),
        ("udp dport 443 counter packets 0 bytes 0 accept", False),
        ('iifname "tailscale0" tcp dport 443 counter packets 0 bytes 0 accept', False),
        ("ip daddr 192.168.1.99 tcp dport 443 counter packets 0 bytes 0 accept", False),
        ("ip daddr 192.168.1.10 tcp dport 443 counter packets 0 bytes 0 accept", True),
    ],
)
def test_ufw_with_one_rule_more(rule: str, passes: bool) -> None:
    chain = "\tchain ufw-user-input {\n"
    assert (refused_by(recorded("ufw").replace(chain, f"{chain}\t\t{rule}\n"), "443/tcp") == "") is passes


def test_ufw_that_denies_what_goes_out() -> None:
    rules = recorded("ufw").replace("hook output priority filter; policy accept", "hook output priority 0; policy drop")
    for state in ("ip protocol tcp ct state new", "ip protocol udp ct state new"):
        rules = rules.replace(f"{state} counter packets 0 bytes 0 accept", "")
    assert refused_by(rules, "443/tcp", hook="output", to=frozenset({"192.168.1.11"})) == "OUTPUT"


def test_firewalld() -> None:
    """Recorded from firewalld 2.3.1: zone public with SSH."""
    rules = recorded("firewalld")
    assert refused_by(rules, "22/tcp") == ""
    assert refused_by(rules, "443/tcp") == "filter_INPUT"
    allowed = rules.replace("\t\ttcp dport 22 accept\n", "\t\ttcp dport 22 accept\n\t\ttcp dport 443 accept\n")
    assert refused_by(allowed, "443/tcp") == ""


def test_legacy_iptables() -> None:
    """Recorded from `iptables-legacy-save | iptables-restore-translate -f /dev/stdin` 1.8.11."""
    rules = recorded("iptables-legacy")
    assert refused_by(rules, "443/tcp") == refused_by(rules, "41641/udp") == "INPUT"
    assert refused_by(rules, "22/tcp") == ""
    chain = refusing(packet("443/tcp"), parse(rules.splitlines()))
    assert chain is not None and chain.full_table == "table ip filter (iptables)"


def inet(rules: str, policy: str = "drop") -> str:
    head = f"type filter hook input priority filter; policy {policy};"
    return (
        f"table inet filter {{\n\tchain input {{\n\t\t{head}\n{rules}\n\t}}\n\tchain other {{\n\t\taccept\n\t}}\n}}\n"
    )


@pytest.mark.parametrize(
    ("rules", "policy", "refused"),
    [
        ("", "accept", False),
        ("", "drop", True),
        ("reject with icmpx admin-prohibited", "accept", True),
        ("ct state vmap { established : accept, related : accept, invalid : drop }", "drop", True),
        ("ct state new accept", "drop", False),
        ("ct state != new drop", "accept", False),
        ("tcp dport vmap { 22 : accept, 443 : jump other }", "drop", False),
        ("tcp dport vmap { 22 : accept, 443 : drop }", "accept", True),
        ("tcp dport vmap @ports", "drop", False),
        ("tcp dport { 22, 400-500 } accept", "drop", False),
        ("tcp dport != 443 accept", "drop", True),
        ("udp dport != 53 accept", "drop", True),
        ("tcp dport @allowed accept", "drop", False),
        ("meta l4proto { icmp, ipv6-icmp } accept", "drop", True),
        ("meta l4proto tcp accept", "drop", False),
        ("meta l4proto 6 accept", "drop", False),
        ("ip protocol { 1, 17 } accept", "drop", True),
        ("meta nfproto ipv6 accept", "drop", True),
        ('iifname "lo" accept', "drop", True),
        ('iifname { "lo", "eth0" } accept', "drop", False),
        ('iifname "eth*" accept', "drop", False),
        ('iifname != "eth0" drop', "accept", False),
        ('oifname "eth0" accept', "drop", True),
        # A limit of a rate does not say what happens to the first packet.
        ("limit rate 3/minute burst 10 packets drop", "accept", False),
        ("jump other", "drop", False),
        ("goto other", "drop", False),
        ('tcp dport 443 log prefix "a { b" level info counter packets 1 bytes 60 accept comment "drop"', "drop", False),
        ("something new 5 accept", "drop", False),
        ("something new 5 drop", "accept", False),
        ("tcp dport 443 return", "drop", True),
        ("tcp dport 443 return", "accept", False),
    ],
)
def test_rules_as_people_write_them(rules: str, policy: str, refused: bool) -> None:
    assert (refused_by(inet(rules, policy), "443/tcp") == "input") is refused


def test_where_it_comes_in_is_perhaps_when_it_may_be_more_than_one() -> None:
    both = frozenset({"eth0", "wlan0"})
    assert refused_by(inet('iifname "eth0" drop', "accept"), "443/tcp", interfaces=both) == ""
    assert refused_by(inet('iifname { "eth0", "wlan0" } drop', "accept"), "443/tcp", interfaces=both) == "input"


def test_sets_and_other_blocks_between_chains_are_passed_over() -> None:
    rules = "table inet f {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 1.2.3.4,\n\t\t\t     5.6.7.8 }\n\t}\n"
    rules += "\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n"
    assert [chain.name for chain in parse(rules.splitlines())] == ["in"]
    assert refused_by(rules, "443/tcp") == "in"


def test_other_hooks_and_families_do_not_matter() -> None:
    rules = inet("drop").replace("hook input", "hook forward")
    assert refused_by(rules, "443/tcp") == ""
    assert refused_by(inet("drop").replace("table inet", "table ip6"), "443/tcp") == ""
    assert refused_by(inet("drop").replace("table inet", "table bridge"), "443/tcp") == ""


def test_published_ports_of_docker() -> None:
    """Recorded from Docker 26.1.5: -p 8080:80 -p 127.0.0.1:8081:80."""
    assert passed_on(parse(recorded("docker").splitlines())) == (
        Passed("ip", "tcp", 8080, 8080, "172.17.0.2:80", "Docker", redirected=False),
    )


def test_published_ports_of_podman() -> None:
    """Recorded from Podman 5.4.2 as root: -p 8090:80 -p 127.0.0.1:8091:80 -p 7000-7001:7000-7001/udp."""
    assert [(each.ports, each.to, each.owner) for each in passed_on(parse(recorded("netavark").splitlines()))] == [
        ("8090/tcp", "10.88.0.4:80", "Podman"),
        ("7000/udp", "10.88.0.4:7000", "Podman"),
        ("7001/udp", "10.88.0.4:7001", "Podman"),
    ]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("tcp dport 8000-8010 dnat to 10.0.0.2", [("8000-8010/tcp", "10.0.0.2", False)]),
        ("tcp dport { 80, 443 } dnat ip to 10.0.0.2", [("80/tcp", "10.0.0.2", False), ("443/tcp", "10.0.0.2", False)]),
        ("dnat ip to tcp dport map { 80 : 10.0.0.2, 81 : 10.0.0.3 }", [("80/tcp", "another address", False)]),
        # Without /etc/protocols, protocols are shown as numbers.
        ("meta l4proto 17 th dport 53 dnat to 10.0.0.2", [("53/udp", "10.0.0.2", False)]),
        ("dnat to 10.0.0.2", [("1-65535/tcp", "10.0.0.2", False), ("1-65535/udp", "10.0.0.2", False)]),
        ("tcp dport 443 redirect to :8443", [("443/tcp", ":8443", True)]),
        ("ip daddr 127.0.0.1 tcp dport 80 dnat to 10.0.0.2", []),
        ('iifname "lo" tcp dport 80 dnat to 10.0.0.2', []),
        ("tcp dport 80 accept", []),
        ('tcp dport 53 xt target "DNAT"', [("53/tcp", "another address", False)]),
    ],
)
def test_what_is_passed_on(rule: str, found: list[tuple[str, str, bool]]) -> None:
    head = "type nat hook prerouting priority dstnat; policy accept;"
    rules = f"table ip nat {{\n\tchain pre {{\n\t\t{head}\n\t\t{rule}\n\t}}\n}}"
    seen = [(each.ports, each.to, each.redirected) for each in passed_on(parse(rules.splitlines()))]
    assert seen[: len(found)] == found and bool(seen) is bool(found)


def test_owners_are_called_as_people_call_them() -> None:
    for name, whose in (("ufw", "ufw"), ("firewalld", "firewalld"), ("docker", "Docker"), ("netavark", "Podman")):
        chains = parse(recorded(name).splitlines())
        assert {owner(chain, chains) for chain in chains} == {whose}
    chains = parse(inet("").splitlines())
    assert owner(chains[0], chains) == "table inet filter"
