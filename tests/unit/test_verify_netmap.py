"""The verification waits until a restarted control server has told a node the policy. In other cases it does not
wait."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit import houses
from tests.verify import probing
from tests.verify.probing import Probing
from tests.verify.remote import Said
from tests.verify.state import NETMAP, NODES, HostState, Section

CLOCK = 1_800_000_000
VPN = Section(0, json.dumps({"TailscaleIPs": ["100.64.0.2"]}))


def nodes(online: bool) -> str:
    return json.dumps([{"id": 1, "given_name": "laptop", "ip_addresses": ["100.64.0.2"], "online": online}])


def house(started: int, online: bool, later: Sequence[tuple[bool, str]]) -> Any:
    """A verification whose laptop first has the policy "old". Later answers come from `later`."""
    answers = iter(later)
    now: dict[str, str] = {}

    def run(name: str, script: str) -> Said:
        if script == NODES:
            up, told = next(answers)
            now[NODES], now[NETMAP] = nodes(up), told
        return Said(0, now[script], "")

    profile: Any = SimpleNamespace(clock=float(CLOCK))
    states = {
        "home": HostState(
            {"nodes": Section(0, nodes(online)), "headscale since": Section(0, f"1\n1\n@{CLOCK - started}\n")}, profile
        ),
        "laptop": HostState({"tailscale": VPN, "netmap": Section(0, "old")}, profile),
    }
    made: Any = Probing.__new__(Probing)
    made.house = houses.single()
    made.subject = SimpleNamespace(asked=made.house.members)
    made.state = states.__getitem__
    made.remote = SimpleNamespace(run=run)
    return made


def told(made: Any) -> tuple[str, bool]:
    section, hears = made.netmap("laptop", lambda section: section.text == "new")
    return section.text, hears


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_node_that_comes_back_is_waited_for_until_it_was_told() -> None:
    assert told(house(3, False, [(False, "old"), (True, "old"), (True, "new")])) == ("new", True)


def test_a_node_that_has_just_come_back_may_have_been_told_nothing_yet() -> None:
    assert told(house(3, True, [(True, "old"), (True, "new")])) == ("new", True)


def test_a_wrong_policy_of_a_server_that_has_long_been_up_is_no_matter_of_waiting() -> None:
    assert told(house(3600, True, [])) == ("old", True)


def test_a_node_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "COMES_BACK_SECONDS", 0)
    assert told(house(3600, False, [(False, "old")] * 99)) == ("old", False)
