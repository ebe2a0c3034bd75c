"""Rules, policy and outgoing connections follow from the access table."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from operations.firewall import ROLLBACK, take_back, try_rules
from plan.firewall.package_sources import Apt, apt_as_root, apt_of
from plan.firewall.rules import LOADER, TABLE, locked_out, ruleset, service_egress, tunnel
from plan.headscale.policy import policy
from plan.house.house import House
from tasks.firewall import loader
from tests.unit import houses

HOUSES = {"single": houses.single(), "split": houses.split()}
MEMBERS = [(house, member.name) for house in HOUSES.values() for member in house.members]


def rules(house: House, name: str, apt: Apt | None = None) -> str:
    return ruleset(house, house.member(name), apt or Apt())


def accepted(text: str, chain: str) -> list[str]:
    """The accepting rules of a chain that name a port of the access table."""
    body = text.split(f"chain {chain} {{")[1].split("\n  }")[0]
    return [line.strip() for line in body.splitlines() if " accept comment " in line]


@pytest.mark.parametrize(("house", "name"), MEMBERS)
def test_only_our_own_table_is_touched_and_everything_else_is_refused(house: House, name: str) -> None:
    text = rules(house, name)
    assert "flush ruleset" not in text
    assert text.count(f"table inet {TABLE}") == 3  # in one transaction: made if it is missing, deleted, and made again
    assert "policy drop" in text
    assert 'ip saddr 100.64.0.0/10 iifname != "tailscale0" counter drop' in text
    assert 'ip6 saddr fd7a:115c:a1e0::/48 iifname != "tailscale0" counter drop' in text


def test_the_gateway_is_open_on_the_vpn_alone() -> None:
    assert accepted(rules(HOUSES["split"], "gate"), "input") == [
        'iifname != "tailscale0" ip saddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } '
        'tcp dport 22 accept comment "ssh"',
        'iifname != "tailscale0" ip6 saddr { fc00::/7, fe80::/10 } tcp dport 22 accept comment "ssh"',
        'iifname != "tailscale0" udp dport 41641 accept comment "wireguard"',
        'iifname "tailscale0" tcp dport 18789 accept comment "openclaw"',
    ]


def test_ollama_is_open_on_the_vpn_only_where_the_gateway_is_elsewhere() -> None:
    assert any("11434" in rule for rule in accepted(rules(HOUSES["split"], "brain"), "input"))
    assert not any("11434" in rule for rule in accepted(rules(HOUSES["single"], "home"), "input"))


def test_a_client_offers_nothing_and_keeps_its_own_way_out() -> None:
    text = rules(HOUSES["single"], "laptop")
    assert {rule.split("comment ")[1] for rule in accepted(text, "input")} == {'"ssh"', '"wireguard"'}
    assert "reject" not in text.split("chain output")[1]


def test_a_row_more_opens_a_port_and_nothing_else_does() -> None:
    row = {"id": "web", "from": "lan", "to": "gateway", "port": "8080/tcp", "over": "lan", "why": "-"}
    more = houses.split(access_table=[*houses.SETTINGS["access_table"], row])
    before, after = (accepted(rules(house, "gate"), "input") for house in (HOUSES["split"], more))
    assert set(after) - set(before) == {'iifname != "tailscale0" tcp dport 8080 accept comment "web"'}
    assert rules(more, "brain") == rules(HOUSES["split"], "brain")


def test_a_row_from_a_server_opens_that_server_s_way_out_too() -> None:
    row = {"id": "metrics", "from": "gateway", "to": "model_hosts", "port": "9100/tcp", "over": "vpn", "why": "-"}
    more = houses.split(access_table=[*houses.SETTINGS["access_table"], row])
    out = 'oifname "tailscale0" tcp dport 9100 accept comment "metrics"'
    assert out in accepted(rules(more, "gate"), "output")
    assert out not in accepted(rules(more, "hub"), "output")
    # Only OpenClaw's account may connect to Ollama.
    assert not any("11434" in each for each in accepted(rules(more, "gate"), "output") if "skuid" not in each)


def test_a_row_to_an_address_is_a_way_out_for_the_kernel_and_root_alone() -> None:
    row = {"id": "nas", "from": "gateway", "to": "192.168.1.5", "port": "2049/tcp", "over": "lan", "why": "-"}
    more = houses.split(access_table=[*houses.SETTINGS["access_table"], row])
    before, after = (rules(house, "gate").splitlines() for house in (HOUSES["split"], more))
    to = "    ip daddr 192.168.1.5 tcp dport 2049"
    mine = [
        f'{to} meta skuid != 0 counter reject with icmpx admin-prohibited comment "egress nas"',
        f'{to} accept comment "nas"',
    ]
    assert [line for line in after if line not in before] == mine
    # The kernel's sockets have no owner. So the first rule refuses all accounts but root, and the second one accepts
    # the rest. Only the last rule of the chain follows.
    assert after[after.index(mine[0]) :][:3] == [*mine, before[-3]] and "reject" in before[-3]
    for name in ("hub", "brain", "laptop"):
        assert rules(more, name) == rules(HOUSES["split"], name)
    six = houses.split(access_table=[*houses.SETTINGS["access_table"], {**row, "to": "fd00::5"}])
    assert '    ip6 daddr fd00::5 tcp dport 2049 accept comment "nas"' in rules(six, "gate").splitlines()


def test_each_service_user_may_begin_what_it_needs_and_is_refused_the_rest() -> None:
    split = HOUSES["split"]
    assert service_egress(split, split.member("hub")) == {"headscale": ()}
    assert service_egress(split, split.member("gate")) == {"openclaw": ('oifname "tailscale0" tcp dport 11434',)}
    assert set(service_egress(split, split.member("brain"))) == {"ollama", "ollama-vpn"}
    assert service_egress(split, split.member("laptop")) == {}
    single = HOUSES["single"]
    assert service_egress(single, single.member("home"))["openclaw"] == (
        'oifname "lo" ip daddr 127.0.0.1 tcp dport 11434',
    )
    for house, name in MEMBERS:
        for user in service_egress(house, house.member(name)):
            lines = rules(house, name).splitlines()
            refused = next(number for number, line in enumerate(lines) if f'"egress {user}"' in line)
            assert lines[refused].split()[:3] == ["meta", "skuid", f'"{user}"']
            # The rules that refuse a service user must come before the rules that accept packets of every user.
            everyone = next(n for n, line in enumerate(lines) if line.strip() == 'oifname "lo" accept')
            assert refused < everyone


def test_daemons_of_the_system_keep_time_and_names_also_over_tls() -> None:
    """systemd-resolved with DNSOverTLS=yes and stubby ask at 853/tcp, chrony with NTS at 4460/tcp (RFC 7858, 8915)."""
    for house, name in MEMBERS:
        lines = [line.strip() for line in rules(house, name).split("chain output")[1].splitlines()]
        mine = [line for line in lines if "1-999" in line]
        if not house.member(name).is_server:
            assert not mine
            continue
        who = "meta skuid { 1-999, 61184-65519 }"
        assert mine == [
            f"{who} udp dport 123 accept",
            f"{who} meta l4proto {{ tcp, udp }} th dport 53 accept",
            f"{who} tcp dport {{ 853, 4460 }} accept",
        ]
        # The house's own services are system users too, so their refusals must come before.
        refused = [number for number, line in enumerate(lines) if '"egress ' in line]
        assert len(refused) == len(service_egress(house, house.member(name)))
        assert max(refused) < lines.index(mine[0])


def test_only_apts_own_user_reaches_the_package_proxy() -> None:
    text = rules(HOUSES["single"], "home", Apt((("10.77.0.1", 8888),)))
    assert 'meta skuid "_apt" ip daddr 10.77.0.1 tcp dport 8888 accept' in text
    assert text.count("8888") == 1
    assert "dport { 80, 443 }" not in text
    assert 'meta skuid "_apt" tcp dport { 80, 443 } accept' in rules(HOUSES["single"], "home")


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed; the labs load these rules for real")
@pytest.mark.parametrize(("house", "name"), MEMBERS)
def test_nft_itself_accepts_the_rules(house: House, name: str) -> None:
    text = rules(house, name, Apt((("10.77.0.1", 8888), ("proxy.lan", 3128))))
    # The accounts exist only on the hosts. This test checks only the syntax.
    for user in ("headscale", "ollama-vpn", "ollama", "openclaw", "_apt"):
        text = text.replace(f'skuid "{user}"', "skuid 1")
    done = subprocess.run(["nft", "--check", "--file", "-"], input=text, text=True, capture_output=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft checks rules only as root")
    assert done.returncode == 0, done.stderr


def test_the_policy_has_one_grant_for_each_row_over_the_vpn() -> None:
    made = policy(HOUSES["split"])
    assert made["grants"] == [
        {"src": ["people@"], "dst": ["tag:gateway-gate"], "ip": ["tcp:18789"]},
        {"src": ["tag:gateway-gate"], "dst": ["tag:model-host"], "ip": ["tcp:11434"]},
    ]
    assert made["groups"] == {"group:clients": ["people@"]}


def test_the_policy_lets_people_in_at_their_own_gateway() -> None:
    made: Any = policy(houses.pair())
    gateways = ["tag:gateway-gate", "tag:gateway-home"]
    assert made["grants"] == [
        {"src": ["ben@"], "dst": gateways[:1], "ip": ["tcp:18789"]},
        {"src": ["anna@"], "dst": gateways[1:], "ip": ["tcp:18789"]},
        {"src": gateways, "dst": ["tag:model-host"], "ip": ["tcp:11434"]},
    ]
    assert {*gateways, "tag:coordinator", "tag:model-host"} == set(made["tagOwners"])
    # A row for one person allows this person to reach only their own gateway.
    table = [{**row, "from": "ben@"} if row["id"] == "openclaw" else row for row in houses.SETTINGS["access_table"]]
    assert policy(houses.pair(access_table=table))["grants"] == [made["grants"][0], made["grants"][2]]


def test_a_table_without_vpn_rows_makes_a_policy_that_allows_nothing() -> None:
    # For Headscale, a policy without `grants` allows everything.
    lan = [{**row, "over": "lan", "from": "lan"} for row in houses.SETTINGS["access_table"]]
    assert policy(houses.split(access_table=lan))["grants"] == []


@pytest.mark.parametrize(
    ("client", "port"),
    [
        ("192.168.1.2", 22),
        ("10.0.0.1", 22),
        ("fd00::1", 22),
        ("fe80::1%host0", 22),
        # The controller is the host itself, so the port does not matter.
        ("127.0.0.1", 2222),
        ("::1", 22),
    ],
)
def test_a_controller_that_the_rules_let_in_is_not_locked_out(client: str, port: int) -> None:
    house = HOUSES["single"]
    for name in ("home", "laptop"):
        assert locked_out(house, house.member(name), client, port) is None


@pytest.mark.parametrize(
    ("client", "port", "said"),
    [
        ("203.0.113.7", 22, ("admin_networks", "203.0.113.7", 'add "203.0.113.7/32"')),
        ("2001:db8::7", 22, ("admin_networks", "2001:db8::7", 'add "2001:db8::7/128"')),
        ("192.168.1.2", 2222, ("access_table", "2222/tcp", "laptop")),
        # The default table does not allow SSH over the VPN.
        ("100.64.0.9", 22, ("access_table", "over vpn", "22/tcp")),
        ("fd7a:115c:a1e0::9", 22, ("access_table", "over vpn", "22/tcp")),
    ],
)
def test_a_controller_that_the_rules_would_shut_out_is_told_before(
    client: str, port: int, said: tuple[str, ...]
) -> None:
    error = locked_out(HOUSES["single"], HOUSES["single"].member("laptop"), client, port)
    assert error is not None
    for words in said:
        assert words in str(error)


def test_a_row_over_the_vpn_lets_a_controller_in_there() -> None:
    row = {"id": "repair", "from": "people@", "to": "all", "port": "22/tcp", "over": "vpn", "why": "-"}
    house = houses.single(access_table=[*houses.SETTINGS["access_table"], row])
    assert locked_out(house, house.member("home"), "100.64.0.9", 22) is None


def test_a_row_for_everybody_lets_a_controller_in_from_anywhere() -> None:
    row = {"id": "ssh-all", "from": "lan", "to": "gateway", "port": "22/tcp", "over": "lan", "why": "-"}
    house = houses.split(access_table=[*houses.SETTINGS["access_table"], row])
    assert locked_out(house, house.member("gate"), "203.0.113.7", 22) is None
    assert locked_out(house, house.member("hub"), "203.0.113.7", 22) is not None


KNOW = runpy.run_path(str(Path(__file__).parent.parent.parent / "files" / "firewall" / "know-connections.py"))


def test_open_connections_are_made_known_before_rules_are_loaded() -> None:
    lines = loader().splitlines()
    tracked, known, loaded = (
        max(number for number, line in enumerate(lines) if words in line)
        for words in ("ct state new", "python3 - $udp", 'nft -f "$1"')
    )
    assert tracked < known < loaded
    # Connections of the house's services are not made known: if the rules do not allow them, they must end.
    assert {"headscale", "ollama", "ollama-vpn", "openclaw"} <= set(lines[known].split())


class World:
    """A fake host on which new rules are tried. Its programs record how they were called, and one of them may fail."""

    def __init__(self, folder: Path, fails: str = "") -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.calls.touch()
        (folder / "bin").mkdir()
        for name in ("nft", "systemctl", "systemd-run", "loader"):
            program = folder / "bin" / name
            said = f'case "{name} $*" in *"{fails}"*) exit 1 ;; esac' if fails else ":"
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{said}\n')
            program.chmod(0o755)
        (folder / "firewall.nft.tried").touch()

    def does(self, script: str) -> int:
        for folder in ("/etc/private-ai", "/var/lib/private-ai"):
            script = script.replace(folder, str(self.folder))
        env = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", script.replace(LOADER, "loader")], env=env, check=False).returncode

    @property
    def files(self) -> set[str]:
        return {file.name for file in self.folder.glob("firewall*")}


@pytest.mark.parametrize("fails", ["nft --check", "systemd-run", "loader", "systemctl is-active"])
def test_rules_that_could_not_be_tried_leave_nothing(tmp_path: Path, fails: str) -> None:
    world = World(tmp_path, fails)
    assert world.does(try_rules()) != 0
    assert world.files == set()
    calls = world.calls.read_text()
    assert f"systemctl stop --quiet {ROLLBACK}.timer" in calls
    # If the file with the old table is incomplete, it is not loaded. Otherwise it is always loaded.
    assert (f"nft -f {tmp_path}/firewall.before\n" in calls) == (fails != "nft --check")


def test_rules_that_are_tried_wait_for_the_timer_or_a_new_connection(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.does(try_rules()) == 0
    assert world.files == {"firewall.nft.tried", "firewall.before", "firewall.unconfirmed"}
    assert world.does(take_back()) == 0
    assert world.files == {"firewall.taken-back"}


def test_rules_that_were_not_in_force_are_not_called_taken_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "firewall.before").touch()
    assert world.does(take_back()) == 0
    assert world.files == set()


def test_open_connections_are_those_with_an_answer_and_not_of_a_service_of_the_house() -> None:
    lines = [
        "0: 00000000:0016 00000000:0000 0A 0:0 00:0 0 0 0 1",
        "1: 0B005B0A:0016 01005B0A:8F74 01 0:0 00:0 0 0 0 1",
        "2: 0B005B0A:8F75 01005B0A:01BB 02 0:0 00:0 0 0 0 1",
        "3: 0B005B0A:8F76 01005B0A:01BB 01 0:0 00:0 0 990 0 1",
        "4: 0000000000000000FFFF00000B005B0A:0050 0000000000000000FFFF000001005B0A:8F77 08 0:0 00:0 0 33 0 1",
    ]
    here, there = bytes([10, 91, 0, 11]), bytes([10, 91, 0, 1])
    assert list(KNOW["connections"](lines, {990})) == [
        ((here, 22), (there, 0x8F74)),
        ((here, 80), (there, 0x8F77)),
    ]


def test_the_network_of_a_controller_is_better_advice_than_an_address_that_changes() -> None:
    house, client = HOUSES["single"], "2003:e5:1f00:abcd:9d2c:11ff:fe22:3344"
    own = ["192.168.1.10/24", "2003:e5:1f00:abcd::10/64", "2003:e5:1f00:abcd::10/128"]
    error = str(locked_out(house, house.member("home"), client, 22, own))
    assert f'add "2003:e5:1f00:abcd::/64", or "{client}/128" if this computer always has that address' in error
    assert f'add "{client}/128" if this computer always has that address, else the network' in str(
        locked_out(house, house.member("home"), client, 22, own[:1])
    )


def test_the_narrowest_network_is_advised_first() -> None:
    house, own = HOUSES["single"], ["192.168.7.10/24", "2001:db8:1::10/64"]
    home = house.member("home")
    strict = houses.single(admin_networks=["10.0.0.0/8"])
    assert locked_out(house, home, "192.168.7.2", 22, own) is None
    said = str(locked_out(strict, strict.member("home"), "192.168.7.2", 22, own))
    assert "this computer reaches home from 192.168.7.2 on port 22" in said
    assert 'Next: add "192.168.7.2/32", or "192.168.7.0/24" if this computer gets another address now and then' in said


@pytest.mark.parametrize(
    ("client", "first"),
    [
        ("192.168.7.2", 'add "192.168.7.2/32", or "192.168.7.0/24" if the jump host gets'),
        ("2001:db8:1::2", 'add "2001:db8:1::2/128", or "2001:db8:1::/64" if the jump host gets'),
        ("203.0.113.7", 'add "203.0.113.7/32" if the jump host always has that address, else'),
    ],
)
def test_behind_a_jump_host_it_is_that_hosts_address(client: str, first: str) -> None:
    house = houses.single(admin_networks=["10.0.0.0/8"])
    own = ["192.168.7.10/24", "2001:db8:1::10/64"]
    said = str(locked_out(house, house.member("home"), client, 22, own, jumps=True))
    assert f"the jump host reaches home from {client} on port 22. Next: {first}" in said and "this computer" not in said


def test_a_tunnel_that_a_server_would_not_open_again_is_told() -> None:
    home, laptop = (HOUSES["single"].member(name) for name in ("home", "laptop"))
    assert "another way in" in tunnel(home, "127.0.0.1", same_machine=False)
    assert "another way in" in tunnel(home, "::1", same_machine=False)
    for member, client, same in (
        (home, "::1", True),
        (home, "10.0.0.1", False),
        (home, "", False),
        (laptop, "::1", False),
    ):
        assert tunnel(member, client, same_machine=same) == ""


def test_apt_keeps_its_way_to_a_mirror_on_another_port() -> None:
    mirrors = ("http://nexus:8081/debian", "https://deb.debian.org/debian", "file:/media/cdrom")
    found = apt_of("home", [], mirrors)
    assert 'meta skuid "_apt" tcp dport { 80, 443, 8081 } accept' in rules(HOUSES["single"], "home", found)
    # If apt uses a proxy, it needs no other address.
    assert "8081" not in rules(HOUSES["single"], "home", apt_of("home", ["http://p:3128"], mirrors))


def test_an_apt_that_fetches_as_root_is_told() -> None:
    home, laptop = (HOUSES["single"].member(name) for name in ("home", "laptop"))
    assert "APT::Sandbox::User" in apt_as_root(home, "root")
    assert apt_as_root(home, "_apt") == "" == apt_as_root(laptop, "root")
