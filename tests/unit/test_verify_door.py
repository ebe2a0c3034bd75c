"""The door: a port that the verification opens on its own computer."""

from __future__ import annotations

import socket

import pytest

from tests.verify.door import Doors, last_hop, own_address, port_of
from tests.verify.probes.network import OPEN, RESET, connect_all, refused_or_off
from tests.verify.test_egress import against_rows

#: A line of OpenSSH's output about a jump host -> the machine and the port in it.
JUMPS = {
    "proxyjump bridge": ("bridge", 0),
    "proxyjump anna@bridge": ("bridge", 0),
    "proxyjump far,anna@bridge:2222": ("bridge", 2222),
    "proxyjump [fd00::1]:2222": ("fd00::1", 2222),
    "proxyjump none": None,
    "hostname 192.168.1.20": None,
}


@pytest.mark.parametrize("line", JUMPS)
def test_the_jump_host_next_to_a_host_is_found_in_ssh_s_own_words(line: str) -> None:
    assert last_hop(f"host x\nport 22\n{line}\nuser anna\n") == JUMPS[line]


def test_the_port_of_a_machine_is_what_ssh_would_take() -> None:
    assert port_of("user anna\nport 2200\n") == 2200
    assert port_of("") == 22


def test_a_door_is_opened_at_own_addresses_alone() -> None:
    # An address of another machine (TEST-NET-2), addresses that only this machine can use, and an empty text.
    assert Doors(["198.51.100.7", "127.0.0.1", "::1", "", "fe80::1"]).targets == ()


def test_the_address_towards_another_is_own() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("255.255.255.255") == ""


def test_who_comes_is_let_in_until_it_is_closed() -> None:
    # The test uses an address of 127.0.0.0/8, because every machine has only these for certain.
    made = Doors.__new__(Doors)
    made.open(["127.0.0.1"])
    (door,) = made.targets
    assert connect_all([door, door], 2) == [OPEN, OPEN]
    made.close()
    assert connect_all([door], 2) == [RESET]


@pytest.mark.parametrize(
    ("user", "outcome", "good"),
    [
        ("root", "open", True),
        ("root", "reset", True),
        ("root", "silent", True),
        # The NAS is off: its address is nobody's.
        ("root", "unreachable", True),
        ("root", "prohibited", False),
        ("ollama", "prohibited", True),
        ("ollama", "open", False),
        ("ollama", "reset", False),
        ("ollama", "silent", False),
        ("ollama", "unreachable", False),
    ],
)
def test_a_row_to_an_address_is_for_root_alone(user: str, outcome: str, good: bool) -> None:
    wrong = against_rows({"192.0.2.5:2049": outcome}, {"192.0.2.5:2049": "nas"}, user)
    assert wrong == ([] if good else [f"nas: 192.0.2.5:2049 {outcome}"])


#: The ICMP error that Linux 6.18 kept when a rule had `reject with icmpx admin-prohibited`, and when nobody on the same
#: network had the address; over IPv4 and over IPv6.
REJECTED = "7100000002030d000000000000000000020000000a6300010000000000000000"
NOBODY = "71000000020301000000000000000000020000000a6300010000000000000000"
REJECTED_V6 = "0d0000000301010000000000000000000a00000000000000fd99000000000000000000000000000100000000"
NOBODY_V6 = "710000000301030000000000000000000a00000000000000fd99000000000000000000000000000100000000"


@pytest.mark.parametrize(
    ("family", "kept", "outcome"),
    [
        (socket.AF_INET, [REJECTED], "prohibited"),
        (socket.AF_INET, [NOBODY], "unreachable"),
        (socket.AF_INET6, [REJECTED_V6], "prohibited"),
        (socket.AF_INET6, [NOBODY_V6], "unreachable"),
        (socket.AF_INET, [], "prohibited"),
        (socket.AF_INET, ["7100"], "prohibited"),
    ],
)
def test_a_machine_that_is_off_is_no_firewall(family: int, kept: list[str], outcome: str) -> None:
    assert refused_or_off(family, [bytes.fromhex(each) for each in kept]) == outcome
