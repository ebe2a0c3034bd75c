"""The door: a port that the verification opens on its own computer."""

from __future__ import annotations

import pytest

from tests.verify.door import Doors, last_hop, own_address, port_of
from tests.verify.probes.network import OPEN, RESET, connect_all
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
        ("root", "prohibited", False),
        ("ollama", "prohibited", True),
        ("ollama", "open", False),
        ("ollama", "reset", False),
        ("ollama", "silent", False),
    ],
)
def test_a_row_to_an_address_is_for_root_alone(user: str, outcome: str, good: bool) -> None:
    wrong = against_rows({"192.0.2.5:2049": outcome}, {"192.0.2.5:2049": "nas"}, user)
    assert wrong == ([] if good else [f"nas: 192.0.2.5:2049 {outcome}"])
