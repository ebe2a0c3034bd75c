"""A run ends when the nodes of its hosts have the policy. If a node does not have it, the run names the node."""

from __future__ import annotations

import logging

import pytest

from facts.headscale import Headscale, HeadscaleState
from facts.tailscale import NodeFilter
from operations.engine import answers
from operations.engine.answers import forget
from operations.headscale import policy_in_force
from operations.headscale.policy_in_force import policy_heard
from plan.devices.vpn_nodes import VpnNode
from plan.headscale.packet_filters import Passage, packet_filter
from tests.unit.fakes import Fake, bare, context
from tests.unit.houses import single

HOUSE = single()
VPN = {"home": ("100.64.0.1",), "laptop": ("100.64.0.2",)}
WANTED = packet_filter(HOUSE, HOUSE.member("home"), VPN)


def node(name: str, online: bool = True) -> VpnNode:
    return VpnNode(1, name, name, "", frozenset(), VPN[name], None, None, None, online, None)


def wait(
    monkeypatch: pytest.MonkeyPatch, told: frozenset[Passage] | None, online: bool = True, changed: bool = True
) -> list[str]:
    """The commands that the operation sends to the host if it gives up at once."""
    monkeypatch.setattr(policy_in_force, "HEAR_SECONDS", 0)
    monkeypatch.setattr(policy_in_force, "unchanged", lambda: not changed)
    forget()
    nodes = (node("home", online), node("laptop"))
    home = Fake("home", bare("100.64.0.1"))
    home.facts |= {Headscale: HeadscaleState(True, {}, nodes, (), {}), NodeFilter: told}
    with context(home, {"home": home, "laptop": Fake("laptop")}):
        home.do(policy_heard, house=HOUSE)
    return home.commands


def test_a_node_that_has_the_policy_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert len(wait(monkeypatch, WANTED)) == 3 and not caplog.text


def test_a_run_that_changes_nothing_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, None, changed=False) == []


@pytest.mark.parametrize(
    ("told", "online", "why"),
    [
        (None, True, "it was told nothing yet"),
        (frozenset(list(WANTED)[1:]), True, "missing: 100.64.0."),
        (WANTED | {("*", "*", 0, 0, 65535)}, True, "too much: * to * ports 0-65535"),
        (WANTED, False, "it is not connected to the control server"),
    ],
)
def test_a_node_that_is_behind_is_named(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: frozenset[Passage] | None,
    online: bool,
    why: str,
) -> None:
    caplog.set_level(logging.WARNING)
    wait(monkeypatch, told, online)
    assert "the node of home does not have the policy of this run" in caplog.text and why in caplog.text


def test_what_this_run_has_changed_is_known_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers.unchanged()
    answers.something_changes()
    assert not answers.unchanged()
