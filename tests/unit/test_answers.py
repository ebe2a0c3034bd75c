"""The answers of hosts are remembered until the run changes something. No host gets the answer of another host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra import host, inventory
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from pyinfra.context import ctx_host

from facts.ca import CaCertificate
from facts.engine.ask_together import UNTOLD, Together, question
from facts.tailscale import Tailscale
from operations.engine.answers import (
    NotYet,
    ask,
    ask_together,
    forget,
    have_of,
    is_wanted,
    something_changes,
    will_ask,
)
from plan.engine.want import Component
from tests.unit.fakes import Fake, bare, context

BASE, TOOL = Component(packages=("curl",)), Component(packages=("tool",))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Fake]]:
    """Two hosts at the beginning of a run. pyinfra is working on the first one."""
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


def test_while_nothing_has_changed_all_that_was_said_is_asked_together(hosts: dict[str, Fake]) -> None:
    def later() -> Component:
        raise NotYet("its address is not known")

    for want in (lambda: BASE, later, lambda: TOOL):
        is_wanted(host, want)
    will_ask(host, Tailscale)
    have_of(host, BASE)
    have_of(host, TOOL)
    ask(host, Tailscale)
    assert len(hosts["home"].commands) == 1
    assert all(word in hosts["home"].commands[0] for word in ("curl", "tool", "tailscale status"))
    # After a change, each question is asked alone when its operation runs, because other answers will change too.
    something_changes()
    have_of(host, BASE)
    assert "tool" not in hosts["home"].commands[1]


def test_a_want_may_ask_its_own_host(hosts: dict[str, Fake]) -> None:
    is_wanted(host, lambda: BASE if ask(host, Tailscale).joined else TOOL)
    have_of(host, TOOL)
    have_of(host, BASE)
    assert len(hosts["home"].commands) == 2


def test_wants_are_called_in_the_name_of_their_own_host_only(hosts: dict[str, Fake]) -> None:
    called: list[str] = []

    def want() -> Component:
        called.append(host.name)
        return BASE

    is_wanted(host, want)
    with ctx_host.use(hosts["laptop"]):
        ask(inventory.get_host("home"), Tailscale)
    assert not called
    have_of(host, TOOL)
    assert called == ["home"]


def test_what_a_host_did_not_tell_is_asked_alone(hosts: dict[str, Fake]) -> None:
    hosts["home"].facts[CaCertificate] = UNTOLD
    ask_together(host, [question(Tailscale, {}), question(CaCertificate, {})])
    hosts["home"].facts[CaCertificate] = "pem"
    ask(host, Tailscale)
    assert ask(host, CaCertificate) == "pem"
    assert len(hosts["home"].commands) == 2


class Says(FactBase[list[str]]):
    """A fact: the output of a command."""

    def command(self, text: str) -> str:
        return text

    @staticmethod
    def default() -> list[str]:
        return ["nothing"]

    def process(self, output: list[str]) -> list[str]:
        if output == ["strange"]:
            raise FactProcessError("not understood")
        return output


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("echo one; echo two", ["one", "two"]),
        ("printf 'no line end'", ["no line end"]),
        ("printf 'a\\n\\n'", ["a", ""]),
        (":", ["nothing"]),
        ("sleep 0.2; echo late", ["late"]),
        ("echo half; exit 3", UNTOLD),
        ("echo strange", UNTOLD),
        ("echo 'end 0123456789abcdef 0 0'", ["end 0123456789abcdef 0 0"]),
    ],
)
def test_answers_are_told_apart(text: str, answer: object, tmp_path: Path) -> None:
    questions = tuple(question(Says, {"text": each}) for each in ("echo before", text, "echo behind"))
    together = Together()
    # The test uses a folder of its own in the place of /run.
    script = together.command(questions).replace("-p /run", f"-p {tmp_path}")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert together.process(done.stdout.splitlines()) == (["before"], answer, ["behind"])
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_room_for_answers_nothing_is_told(tmp_path: Path) -> None:
    together = Together()
    script = together.command((question(Says, {"text": "echo one"}),)).replace("-p /run", f"-p {tmp_path}/none")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "" and together.default() == ()
