"""The door that a verification opens at its own computer."""

from __future__ import annotations

from tests.verify.door import Doors, own_address
from tests.verify.probes.network import OPEN, RESET, connect_all


def test_a_door_is_opened_at_own_addresses_alone() -> None:
    # Of another machine (TEST-NET-2), of this machine for itself, and none at all.
    assert Doors(["198.51.100.7", "127.0.0.1", "::1", "", "fe80::1"]).targets == ()


def test_the_address_towards_another_is_own() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("255.255.255.255") == ""


def test_who_comes_is_let_in_until_it_is_closed() -> None:
    # The whole of 127.0.0.0/8 is this machine's, and only a loopback address is there on every machine.
    made = Doors.__new__(Doors)
    made.open(["127.0.0.1"])
    (door,) = made.targets
    assert connect_all([door, door], 2) == [OPEN, OPEN]
    made.close()
    assert connect_all([door], 2) == [RESET]
