"""A run reaches the machines that its inventory means: one machine for each name, and never a wrong one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from operations.ca.authority import authority_script
from plan.base.profile import Profile
from plan.ca import authority_name, other_house
from plan.engine.errors import SettingError
from plan.house.house import Member
from plan.house.inventory import HostEntry, build_house
from plan.house.machine_identity import another_name, foreign_addresses, left_behind, twins
from tests.unit.houses import SETTINGS, single
from tests.unit.test_preflight import GOOD

HOME = replace(GOOD, machine=replace(GOOD.machine, boot="c661a50f 25", host_keys=frozenset({"AAAAhome"})))
LAPTOP = replace(
    GOOD,
    hostname="laptop",
    machine_id="ffeeddccbbaa99887766554433221100",
    machine=replace(GOOD.machine, boot="0d0e3a11 25", host_keys=frozenset({"AAAAlaptop"})),
)
ROLES = ("coordinator", "gateway", "model_hosts", "clients")


def entries(home: dict[str, Any], laptop: dict[str, Any]) -> list[HostEntry]:
    return [HostEntry("home", ROLES[:3], {**SETTINGS, **home}), HostEntry("laptop", ROLES[3:], {**SETTINGS, **laptop})]


@pytest.mark.parametrize(
    ("home", "laptop"),
    [
        ({"ssh_hostname": "192.168.1.10"}, {"ssh_hostname": "192.168.1.10"}),
        ({"ssh_hostname": "192.168.1.10"}, {"ssh_hostname": "jump", "lan_addresses": ["192.168.1.20", "192.168.1.10"]}),
        ({"ssh_hostname": "fd12::0:1"}, {"ssh_hostname": "fd12::1"}),
    ],
)
def test_one_address_for_two_hosts_is_refused(home: dict[str, Any], laptop: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as error:
        build_house(entries(home, laptop), ROLES)
    for words in ("inventory: hosts home and laptop", "addresses of its own", "Next: correct"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "100.64.0.1",
        "fd7a:115c:a1e0::1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "169.254.1.1",
        "fe80::1",
        "::ffff:192.168.1.10",
        "255.255.255.255",
    ],
)
def test_an_address_that_others_cannot_use_is_refused(address: str) -> None:
    for data, setting in (
        ({"ssh_hostname": address}, "ssh_hostname"),
        ({"ssh_hostname": "192.168.1.10", "lan_addresses": [address]}, "lan_addresses"),
    ):
        with pytest.raises(SettingError) as error:
            build_house(entries(data, {"ssh_hostname": "192.168.1.20"}), ROLES)
        for words in (f"inventory: host home: {setting} is '{address}'", "this is ", "Next: add 'lan_addresses'"):
            assert words in str(error.value)
    # SSH may use such an address, if lan_addresses has the address for the other hosts.
    good = {"ssh_hostname": address, "lan_addresses": ["192.168.1.10"]}
    assert build_house(entries(good, {"ssh_hostname": "192.168.1.20"}), ROLES).coordinator.addresses == (
        "192.168.1.10",
    )


def test_two_names_for_one_machine_are_refused() -> None:
    # The two hosts have different addresses in the inventory, but the machine's own answers are the same.
    problems, _ = twins("laptop", replace(HOME, addresses=LAPTOP.addresses), {"home": HOME, "laptop": HOME})
    assert len(problems) == 1
    for words in ("hosts home and laptop", "one machine, which calls itself home", "another machine for each name"):
        assert words in str(problems[0])


def test_containers_of_one_kernel_are_several_machines() -> None:
    # The containers have the same boot id of the kernel, but their first processes began at different times.
    other = replace(LAPTOP, machine=replace(LAPTOP.machine, boot="c661a50f 7130"))
    assert twins("laptop", other, {"home": HOME, "laptop": other}) == ([], [])


def test_copies_of_one_disk_are_refused_for_their_ssh_keys() -> None:
    copy = replace(HOME, machine=replace(HOME.machine, boot="another 25"))
    problems, _ = twins("laptop", copy, {"home": HOME, "laptop": copy})
    assert len(problems) == 1
    for words in (
        "hosts home and laptop: SSH host key",
        "each could pretend to be the other",
        "rm /etc/ssh/ssh_host_*",
    ):
        assert words in str(problems[0])


def test_the_same_machine_id_alone_is_a_warning() -> None:
    copy = replace(LAPTOP, machine_id=HOME.machine_id)
    problems, warnings = twins("laptop", copy, {"home": HOME, "laptop": copy})
    assert problems == [] and len(warnings) == 1 and "/etc/machine-id" in warnings[0]


def test_a_host_that_tells_nothing_of_itself_is_nobodys_twin() -> None:
    silent = replace(HOME, machine_id="", machine=replace(HOME.machine, boot="", host_keys=frozenset()))
    assert twins("laptop", silent, {"home": silent, "laptop": silent}) == ([], [])


def stamped(profile: Profile, **said: str) -> Profile:
    stamp = {"revision": "0", "settings": "0", "programs": {}, "when": "2026-11-24T12:00:00+00:00", **said}
    return replace(profile, stamp=json.dumps(stamp))


def test_a_machine_that_was_deployed_under_another_name_is_refused() -> None:
    # Somebody has swapped two addresses, or has renamed a host.
    said = str(another_name("laptop", stamped(HOME, host="home")))
    for words in ("host laptop", "deployed as home on 2026-11-24", "correct the address", "rm /var/lib/private-ai/dep"):
        assert words in said
    for profile in (HOME, stamped(HOME), stamped(HOME, host="laptop"), replace(HOME, stamp="what?")):
        assert another_name("laptop", profile) is None


def member(*addresses: str, given: bool) -> Member:
    return Member("home", frozenset({"coordinator"}), addresses, "people", lan_given=given)


def test_an_address_that_the_host_does_not_have() -> None:
    # GOOD has 192.168.1.10 on its network, and 100.64.0.1 in the VPN.
    for address in ("192.168.1.10", "100.64.0.1"):
        assert foreign_addresses(member(address, given=False), GOOD) == ([], [])
    problems, warnings = foreign_addresses(member("203.0.113.7", given=False), GOOD)
    assert warnings == [] and len(problems) == 1
    for words in ("host home: ssh_hostname is '203.0.113.7", "'lan_addresses': ['192.168.1.10']"):
        assert words in str(problems[0])
    # Like a host that is reached only through a tunnel: it has no address that could be written into lan_addresses.
    alone = replace(GOOD, addresses=(("lo", "127.0.0.1/8"), ("tailscale0", "100.64.0.1/32"), ("eth0", "fe80::1/64")))
    problems, _ = foreign_addresses(member("203.0.113.7", given=False), alone)
    assert "none that other hosts can reach" in str(problems[0]) and "Next: give the host an address" in str(
        problems[0]
    )
    # A person has written this address into lan_addresses, so there may be a router that translates it.
    problems, warnings = foreign_addresses(member("192.168.1.10", "203.0.113.7", given=True), GOOD)
    assert problems == [] and len(warnings) == 1 and "lan_addresses has 203.0.113.7" in warnings[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("authority")
    script = authority_script(authority_name(single()), ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0")).replace(
        "/var/lib/private-ai/ca", str(folder)
    )
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    return Path(folder / "ca.crt").read_text()


def test_another_domain_or_name_than_the_authoritys_is_refused(authority: str) -> None:
    assert other_house(single(), authority) is None
    moved = str(other_house(single(house_domain="casa.example.org"), authority))
    for words in ("house_domain is 'casa.example.org'", "house.internal", "authority on home", "set it back"):
        assert words in moved
    renamed = str(other_house(single(house_name="casa"), authority))
    for words in ("house_name is 'casa'", "Private AI house CA", "set it back"):
        assert words in renamed


@pytest.mark.parametrize(
    "text", ["", "Welcome to home\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_authority_that_is_not_there_or_not_understood_is_left_to_others(text: str) -> None:
    assert other_house(single(), text) is None


def test_a_run_for_some_hosts_after_the_coordinator_has_moved_names_the_others() -> None:
    home = single().coordinator
    said = left_behind("laptop", home, ["192.168.1.77"], ["home", "gate"])
    for words in ("host laptop: ", "was at 192.168.1.77", f"is at {', '.join(home.addresses)} now", "gate, home may"):
        assert words in said
    # No warning: if no host is left out; if the host has the new address already; if the host is new and has none yet.
    assert left_behind("laptop", home, ["192.168.1.77"], []) == ""
    assert left_behind("laptop", home, home.addresses[::-1], ["home"]) == ""
    assert left_behind("laptop", home, [], ["home"]) == ""
