"""What hosts were asked is known until the run changes something, and no host's answer is taken for another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyinfra import host, inventory
from pyinfra.context import ctx_host

from facts.have import ComponentStates
from facts.tailscale import Tailscale
from operations import asked
from operations.asked import NotYet, ask, forget, have_of, is_wanted, something_changes
from plan.want import Component, Have
from tests.unit.fakes import Fake, bare, context

BASE, TOOL = Component(packages=("curl",)), Component(packages=("tool",))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Fake]]:
    """Two hosts at the begin of a run; it is the turn of the first."""
    monkeypatch.setattr(asked, "_RUN", asked._Run())
    found = {name: Fake(name, bare(f"100.64.0.{number}")) for number, name in enumerate(("home", "laptop"), 1)}
    with context(found["home"], found):
        yield found


def test_an_answer_holds_until_something_changes_on_any_host(hosts: dict[str, Fake]) -> None:
    ask(host, Tailscale)
    ask(host, Tailscale)
    assert len(hosts["home"].commands) == 1
    for again in (forget, something_changes):
        again()
        ask(host, Tailscale)
    assert len(hosts["home"].commands) == 3


def test_an_answer_that_was_overtaken_by_a_change_does_not_hold(hosts: dict[str, Fake]) -> None:
    class Slow(Fake):
        def get_fact(self, fact: type, **arguments: object) -> object:
            something_changes()
            return super().get_fact(fact, **arguments)

    hosts["home"] = Slow("home", bare("100.64.0.1"))
    with ctx_host.use(hosts["home"]):
        ask(host, Tailscale)
        ask(host, Tailscale)
    assert len(hosts["home"].commands) == 2


def test_each_host_is_asked_itself(hosts: dict[str, Fake]) -> None:
    # pyinfra's `host` is one object for all of them.
    assert ask(host, Tailscale).addresses[0] == "100.64.0.1"
    with ctx_host.use(hosts["laptop"]):
        assert ask(host, Tailscale).addresses[0] == "100.64.0.2"
    laptop = inventory.get_host("laptop")
    assert ask(laptop, Tailscale) is ask(laptop, Tailscale)
    assert [len(each.commands) for each in hosts.values()] == [1, 1]


def test_while_nothing_has_changed_all_components_are_asked_for_together(hosts: dict[str, Fake]) -> None:
    def later() -> Component:
        raise NotYet("its address is not known")

    for want in (lambda: BASE, later, lambda: TOOL):
        is_wanted(host, want)
    have_of(host, BASE)
    have_of(host, TOOL)
    assert len(hosts["home"].commands) == 1
    assert "curl" in hosts["home"].commands[0] and "tool" in hosts["home"].commands[0]
    # After a change each is asked for when it is its turn: the others will change too.
    something_changes()
    have_of(host, BASE)
    assert "tool" not in hosts["home"].commands[1]


def test_answers_for_several_components_are_told_apart() -> None:
    output = ["package curl installed", "end", "end", "package tool installed", "end"]
    found = ComponentStates().process(output)
    assert [each.packages for each in found] == [{"curl"}, frozenset(), {"tool"}] and found[1] == Have()
