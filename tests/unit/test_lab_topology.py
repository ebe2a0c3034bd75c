"""The plan of a lab: names, addresses, rules and files. No host is needed."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv6Network, ip_network
from pathlib import Path

import pytest

from lab.guest import Guest, guest
from lab.hosts import lab_host
from lab.lived_in import lives, way
from lab.machine import Mirrors, Recipe, parse_mirrors
from lab.network import rules
from lab.proxy import configuration, filters
from lab.state import State
from lab.supervisor import nspawn
from lab.topology import HABITS, NUMBERS, TOPOLOGIES, Host, Lab, parse_net, parse_profile
from lab.why import PARTS, questions
from plan.engine.errors import SettingError

MIRRORS = Mirrors("http://mirror.example/debian", "http://mirror.example/debian-security")


def test_topologies_have_their_hosts_and_both_outsiders() -> None:
    assert [h.name for h in Lab().hosts] == ["home", "laptop", "stranger", "internet"]
    split = Lab(topology="split").hosts
    assert [h.name for h in split] == ["hub", "gate", "brain", "laptop", "stranger", "internet"]
    for topology in TOPOLOGIES:
        without, with_phone = (Lab(topology=topology, phone=phone).hosts for phone in (False, True))
        assert {h.name for h in set(with_phone) - set(without)} == {"phone"}


def test_addresses_are_fixed_and_match_in_both_families() -> None:
    lab = Lab("a", 91, "split", phone=True)
    places = {h.name: (str(h.v4), str(h.v6)) for h in (*lab.hosts, lab.controller)}
    assert places == {
        "hub": ("10.91.0.11", "fd4c:4142:91::11"),
        "gate": ("10.91.0.12", "fd4c:4142:91::12"),
        "brain": ("10.91.0.13", "fd4c:4142:91::13"),
        "laptop": ("10.91.0.20", "fd4c:4142:91::20"),
        "phone": ("10.91.0.30", "fd4c:4142:91::30"),
        "stranger": ("10.91.0.66", "fd4c:4142:91::66"),
        "internet": ("10.91.0.254", "fd4c:4142:91::fe"),
        "controller": ("10.91.0.1", "fd4c:4142:91::1"),
    }


def test_no_two_labs_meet_and_none_takes_others_addresses() -> None:
    labs = [Lab("x", net) for net in range(1, 255)]
    assert len({lab.lan_v4 for lab in labs}) == len({lab.lan_v6 for lab in labs}) == 254
    for lab in labs:
        assert lab.lan_v6.subnet_of(IPv6Network("fd00::/8"))  # RFC 4193
        assert not lab.lan_v6.overlaps(IPv6Network("fd7a:115c:a1e0::/48"))  # Tailscale's
        for taken in ("100.64.0.0/10", "203.0.113.0/24"):
            assert not lab.lan_v4.overlaps(ip_network(taken))
        assert len(lab.interface) <= 15


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        (("Demo", 77, "single"), "LAB (--name)"),
        (("", 77, "single"), "LAB (--name)"),
        (("../x", 77, "single"), "LAB (--name)"),
        (("a" * 17, 77, "single"), "LAB (--name)"),
        (("demo", 0, "single"), "LAB_NET (--net)"),
        (("demo", 255, "single"), "LAB_NET (--net)"),
        (("demo", 77, "both"), "TOPOLOGY (--topology)"),
    ],
)
def test_wrong_values_are_refused_by_name(values: tuple[str, int, str], setting: str) -> None:
    with pytest.raises(SettingError) as error:
        Lab(*values)
    assert error.value.setting == setting


def test_a_subnet_number_must_be_a_number() -> None:
    with pytest.raises(SettingError, match="LAB_NET"):
        parse_net("10.77.0.0/24")


def test_a_host_of_the_other_topology_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingError, match="home, laptop, stranger, internet"):
        Lab().host("brain")


def test_inventory_data_is_plain_and_works_without_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB", "nosuchlab")
    monkeypatch.setenv("LAB_NET", "93")
    for name in NUMBERS:
        host, data = lab_host(name)
        assert host == name
        assert json.loads(json.dumps(data)) == data
        assert data["ssh_strict_host_key_checking"] == "yes"
    data = lab_host("home")[1]
    assert data["lan_addresses"] == ["10.93.0.11", "fd4c:4142:93::11"]
    assert data["admin_networks"] == ["10.93.0.1/32", "fd4c:4142:93::1/128"]
    assert data["ssh_key"].endswith("/.lab/nosuchlab/ssh_key")
    with pytest.raises(SettingError, match="'homes'"):
        lab_host("homes")


LISTING = """\
nodistro main https://other.example/node/
bookworm stable https://other.example/docker/
bookworm main http://mirror.example/debian/
bookworm-updates main http://mirror.example/debian/
bookworm-security main http://mirror.example/debian-security/
"""


def test_the_mirror_is_the_machines_own() -> None:
    mirrors = parse_mirrors(LISTING, "bookworm")
    assert mirrors == MIRRORS
    assert mirrors.sources("trixie") == (
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    )


def test_without_a_security_archive_there_are_two_sources() -> None:
    assert len(parse_mirrors("bookworm main http://mirror.example/debian", "bookworm").sources("trixie")) == 2


@pytest.mark.parametrize("listing", ["", "trixie main http://m.example/debian", "bookworm main file:/srv/debian"])
def test_unusable_sources_are_refused(listing: str) -> None:
    with pytest.raises(SettingError, match="apt sources of this machine"):
        parse_mirrors(listing, "bookworm")


def test_the_proxy_serves_the_mirror_and_nothing_else() -> None:
    text = configuration(Lab(), MIRRORS, "/x/filter").splitlines()
    assert {"ConnectPort 0", "FilterDefaultDeny Yes", "Allow 10.77.0.0/24", "User nobody"} <= set(text)
    assert [line for line in text if line.startswith("Listen")] == [
        "Listen 10.77.0.1",
        "Listen fd4c:4142:77::1",
    ]
    assert filters(MIRRORS) == ("^http://mirror\\.example/debian/\n^http://mirror\\.example/debian-security/\n")


def test_a_mirror_over_https_may_be_connected_to_by_name() -> None:
    mirrors = Mirrors("https://a-mirror.example/debian", None)
    assert "ConnectPort 443" in configuration(Lab(), mirrors, "/x")
    assert filters(mirrors) == "^a-mirror\\.example:443$\n"


def test_rules_let_the_hosts_open_only_the_proxy() -> None:
    text = rules(Lab())
    opened = [line.strip() for line in text.splitlines() if "tcp dport" in line]
    assert opened == [
        "ip daddr 10.77.0.1 tcp dport 8888 accept",
        "ip6 daddr fd4c:4142:77::1 tcp dport 8888 accept",
    ]
    assert text.split("chain to_controller {")[1].split("}\n    chain")[0].rstrip().endswith("counter drop")


def test_a_root_has_a_name_of_its_own_for_every_recipe() -> None:
    one = Recipe("trixie", ("systemd",), MIRRORS.sources("trixie"))
    two = Recipe("trixie", ("systemd", "dbus"), MIRRORS.sources("trixie"))
    assert one.name != two.name
    assert one.name == Recipe("trixie", ("systemd",), MIRRORS.sources("trixie")).name


def test_every_host_routes_through_the_internet_host_which_routes_nowhere() -> None:
    lab = Lab()
    files = {h.name: guest(lab, h, "0" * 32, ("private", "public"), "login") for h in lab.hosts}
    network = "etc/systemd/network/10-lab.network"
    assert "Gateway=10.77.0.254\n" in files["home"].texts[network][0]
    assert "Gateway=fd4c:4142:77::fe\n" in files["home"].texts[network][0]
    assert "Gateway" not in files["internet"].texts[network][0]
    assert "Address=198.51.100.10/32\n" in files["internet"].texts[network][0]
    assert "Address=2001:db8:198::10/128\n" in files["internet"].texts[network][0]
    assert "etc/systemd/system/lab-web.service" not in files["stranger"].texts


def test_a_host_lets_root_in_by_key_only_and_keeps_its_key_to_itself() -> None:
    lab = Lab()
    texts = guest(lab, lab.host("home"), "0" * 32, ("private", "public"), "login").texts
    assert texts["etc/ssh/ssh_host_ed25519_key"] == ("private", 0o600)
    assert texts["root/.ssh/authorized_keys"] == ("login", 0o600)
    assert "PasswordAuthentication no" in texts["etc/ssh/sshd_config.d/10-lab.conf"][0]


def test_a_phone_has_a_stock_tailscale_and_is_told_nothing_of_the_house() -> None:
    lab = Lab(phone=True)
    files = {h.name: guest(lab, h, "0" * 32, ("private", "public"), "login") for h in lab.hosts}
    phone, stranger = files["phone"], files["stranger"]
    more = {name: text for name, (text, _) in phone.texts.items() if name not in stranger.texts}
    assert set(more) == {"usr/lib/systemd/system/tailscaled.service", "etc/default/tailscaled"}
    assert set(phone.links) - set(stranger.links) == {"etc/systemd/system/multi-user.target.wants/tailscaled.service"}
    for text in (*more.values(), phone.texts["etc/hosts"][0]):
        assert "house" not in text and "10.77.0.11" not in text and "login" not in text


def test_no_host_may_set_the_clock_which_is_the_machines(tmp_path: Path) -> None:
    lab = Lab()
    for host in lab.hosts:
        assert "--drop-capability=CAP_SYS_TIME" in nspawn(lab, State(tmp_path), host)


def lived_in(topology: str = "single", without: str = "") -> Lab:
    return Lab(topology=topology, habits=tuple(habit for habit in HABITS if habit != without))


def files(lab: Lab, host: Host) -> Guest:
    return guest(lab, host, "0" * 32, ("private", "public"), "login")


def test_a_profile_is_fresh_or_lived_in_or_names_habits() -> None:
    assert parse_profile("fresh") == () and set(parse_profile("lived-in")) == set(HABITS)
    assert parse_profile("german,umask") == ("german", "umask")
    with pytest.raises(SettingError, match=r"LAB_PROFILE.*'germna'.*german"):
        Lab(habits=parse_profile("germna"))


def test_people_come_into_lived_in_hosts_by_other_ways_than_into_fresh_ones() -> None:
    lab = lived_in()
    ways = {host.name: way(lab, host) for host in lab.hosts}
    assert (ways["home"].user, ways["home"].port, ways["home"].jump) == ("admin", 2222, "")
    assert (ways["laptop"].user, ways["laptop"].port, ways["laptop"].jump) == ("berta", 22, "stranger")
    fresh = {way(Lab(), host) for host in Lab().hosts}
    assert fresh == {ways["stranger"]} == {ways["internet"]} and ways["stranger"].user == "root"


def shape(lab: Lab, host: Host) -> tuple[object, ...]:
    """Everything on a host that a habit may change."""
    return files(lab, host), way(lab, host), nspawn(lab, State(Path()), host)


def test_each_habit_changes_some_host_of_the_house_and_no_other() -> None:
    for topology, house in TOPOLOGIES.items():
        lab = lived_in(topology)
        for habit in HABITS:
            without = lived_in(topology, without=habit)
            changed = {host.name for host in lab.hosts if shape(lab, host) != shape(without, host)}
            assert changed == {host.name for host in lab.hosts if lives(lab, host, habit)}, habit
            assert changed and changed <= set(house), habit


def test_a_lived_in_host_keeps_root_out_and_apts_proxy_in_a_program() -> None:
    lab = lived_in()
    texts = files(lab, lab.host("home")).texts
    assert "root/.ssh/authorized_keys" not in texts and texts["home/admin/.ssh/authorized_keys"] == ("login", 0o600)
    assert not any("Acquire::http::Proxy " in text for text, _ in texts.values())
    assert texts["usr/local/bin/apt-proxy-detect"] == ("#!/bin/sh\necho http://10.77.0.1:8888/\n", 0o755)
    assert "etc/resolv.conf" in texts and "etc/resolv.conf" not in files(lab, lab.host("laptop")).texts


def test_what_a_failed_test_asks_of_hosts_is_good_shell() -> None:
    done = subprocess.run(["sh", "-n"], input=questions(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Each part is printed below its name, also if the host does not have the program.
    nowhere = {"PATH": "/nowhere"}
    done = subprocess.run(
        ["/bin/sh", "-s"], input=questions(), capture_output=True, text=True, check=False, env=nowhere
    )
    assert [line[4:] for line in done.stdout.splitlines() if line.startswith("=== ")] == list(PARTS)
