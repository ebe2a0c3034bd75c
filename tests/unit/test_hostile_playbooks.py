"""Values after `--data` arrive as they were typed. Names that devices and browsers choose are only shown as text."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import unicodedata
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyinfra.context import ctx_state

import tasks.engine.begin
import tasks.engine.house
from facts.ca import CaCertificate
from facts.headscale import Headscale, HeadscaleState
from operations.engine.run import CommandLine, begin_run, this_run
from operations.openclaw import send_message
from plan.devices.vpn_nodes import Minted, node_of
from tasks.engine.begin import begin
from tasks.engine.house import WrongInput
from tests.unit import houses
from tests.unit.fakes import Fake, bare, context
from tests.unit.hostile import WORDS, arguments, fewer, is_label, near, texts

ROOT = Path(__file__).parents[2]
OPERATIONS = (
    "openclaw.send_message.ask",
    "openclaw.browser_approval.approved",
    "devices.enrolment.enrolled",
    "devices.nodes.removed",
    "openclaw.token.rotated",
)
#: Words that pyinfra turns into other types: numbers, true, null, lists.
typed = arguments | st.sampled_from([*WORDS, "[1, 2]", '{"a": 1}', "1.50", "TRUE", "-0", "null", '"x"', "1_0"])


@dataclass
class Played:
    """The operations that a playbook calls, with their arguments, and its output."""

    wants: list[tuple[str, dict[str, Any]]]
    out: str
    err: str


def play(playbook: str, data: dict[str, str], here: Fake, **house: Any) -> Played:
    """Run a playbook on the coordinator, which is also the gateway."""
    played = Played([], "", "")
    out, err = io.StringIO(), io.StringIO()
    made = houses.single(**house)
    with contextlib.ExitStack() as stack:
        stack.enter_context(context(here, _Everybody(here)))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(contextlib.suppress(SystemExit))
        begin_run(CommandLine(data=data, yes=True, inventory="my house's inventory.py"))
        stack.enter_context(patch.object(tasks.engine.house, "the_house", lambda: made))
        stack.enter_context(patch.object(tasks.engine.house, "check_reached", lambda: None))
        for name in OPERATIONS:
            stack.enter_context(patch(f"operations.{name}", partial(_remember, played.wants, name)))
        runpy.run_path(str(ROOT / "playbooks" / f"{playbook}.py"))
    return replace(played, out=out.getvalue(), err=err.getvalue())


def _remember(wants: list[tuple[str, dict[str, Any]]], operation: str, /, **given: Any) -> None:
    wants.append((operation, given))


class _Everybody(dict[str, Fake]):
    def __init__(self, only: Fake) -> None:
        self.only = only

    def __missing__(self, _: str) -> Fake:
        return self.only


def coordinator(*nodes: dict[str, Any], browsers: str = '{"paired": [], "pending": []}') -> Fake:
    facts = bare("100.64.0.1")
    facts[CaCertificate] = "the certificate"
    facts[Headscale] = HeadscaleState(
        True, {"people": 1}, tuple(map(node_of, nodes)), (), {"anna-phone": Minted("people", (4,), "")}
    )
    return Fake("laptop", facts, {"devices list": browsers}, data={})


def harmless(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


@given(arguments)
@example("null")
@example("007")
def test_a_text_stays_the_text_that_was_typed(text: str) -> None:
    state = SimpleNamespace(set_stage=None)
    with click.Context(click.Command("x")) as here, ctx_state.use(state):
        here.params["data"] = (f"message={text}", "no equals sign")
        begin()
        assert this_run().command_line.data == {"message": text}


@fewer(2)
@given(typed.filter(str.strip))
@example("0")
@example("null")
def test_a_message(text: str) -> None:
    played = play("chat", {"message": text}, coordinator())
    assert [(name, wants["message"]) for name, wants in played.wants] == [("openclaw.send_message.ask", text)]


@fewer(2)
@given(near("anna-phone") | typed)
@example("true")
@example("007")
def test_a_device(name: str) -> None:
    kept = {"name": name, "owner": "people", "kind": "ios"}
    house: dict[str, Any] = {"headscale_devices": [kept] if is_label(name) and name not in ("home", "laptop") else []}
    for playbook in ("device_add", "device_remove"):
        try:
            played = play(playbook, {"device": name}, coordinator(), **house)
        except WrongInput as error:
            assert not house["headscale_devices"] and name != "anna-phone"
            assert str(error).isprintable() and "nothing was changed" in str(error)
            continue
        device = played.wants[0][1]["device"]
        assert getattr(device, "name", device) == name and harmless(played.err)


def test_the_list_of_devices_fits_a_terminal() -> None:
    def node(number: int, name: str, **more: Any) -> dict[str, Any]:
        address = f"100.64.0.{number}"
        base = {"id": number, "name": name, "given_name": name, "user": {"name": "people"}, "ip_addresses": [address]}
        return {**base, "created_at": {"seconds": 1795300000}, "last_seen": {"seconds": 1795300000}, **more}

    asking = {"requestId": "r-1", "deviceId": "r-1", "displayName": "Safari on iPhone", "platform": "ios"}
    browsers = json.dumps({"pending": [{**asking, "remoteIp": "100.64.0.14"}], "paired": []})
    device = {"name": "anna-phone", "owner": "people", "kind": "android"}
    here = coordinator(
        node(11, "home", online=True),
        node(14, "anna-phone", pre_auth_key={"id": 4}, expiry={"seconds": 1805300000}),
        node(15, "burglar"),
        browsers=browsers,
    )
    shown = play("device_list", {}, here, headscale_devices=[device]).out.splitlines()
    table, below = shown[:6], shown[6:]
    assert max(map(len, map(str.rstrip, table))) <= 100, shown
    assert [line for line in below if line.startswith("burglar is not designated: ")], shown
    assert any(line.split()[:4] == ["anna-phone", "android", "people", "100.64.0.14"] for line in shown), shown


def test_a_device_is_not_removed_while_headscale_does_not_answer() -> None:
    facts = bare("100.64.0.1")
    facts[Headscale] = HeadscaleState(False, {}, (), (), {"anna-phone": Minted("people", (4,), "")})
    with pytest.raises(WrongInput, match="does not answer"):
        play("device_remove", {"device": "anna-phone"}, Fake("home", facts, {}, data={}))


@given(typed, typed, typed)
def test_other_data(hours: str, fate: str, show: str) -> None:
    for playbook, data in (
        ("device_add", {"device": "anna-phone", "hours": hours}),
        ("token_rotate", {"pairings": fate, "show": show}),
        ("device_list", {"json": show}),
    ):
        here = coordinator()
        here.data = {key: _as_pyinfra(value) for key, value in data.items()}
        device = {"name": "anna-phone", "owner": "people", "kind": "ios"}
        try:
            played = play(playbook, data, here, headscale_devices=[device])
        except WrongInput as error:
            assert str(error).isprintable()
            continue
        for _, wants in played.wants:
            assert type(wants.get("hours", 1)) is int and 1 <= wants.get("hours", 1) <= 24
            assert type(wants.get("show", True)) is bool and type(wants.get("drop", True)) is bool
        if playbook == "device_list":
            assert show.lower() in ("true", "false")


def _as_pyinfra(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


@fewer(4)
@given(near("anna-phone", "iphone") | texts, near("r-1") | texts, texts)
@example("[/]", "r-1", "[/red]")
@example("\x1b[2J", "r-1\n", "[link=https://evil.example]x[/link]")
@example("x\n1. from laptop", "r-1\x1b[2J", "y\nrequest  r-2")
def test_names_that_devices_and_browsers_give_themselves_are_shown_and_not_obeyed(
    name: str, number: str, browser: str
) -> None:
    node = {"id": 3, "name": name, "given_name": name, "user": {"name": "people"}, "ip_addresses": ["100.64.0.3"]}
    phone = {**node, "id": 4, "pre_auth_key": {"id": 4}, "ip_addresses": ["100.64.0.4"]}
    asking = {"requestId": number, "deviceId": number, "displayName": browser, "platform": browser, "role": browser}
    browsers = json.dumps(
        {
            "pending": [{**asking, "remoteIp": "100.64.0.3"}, {**asking, "remoteIp": browser}],
            "paired": [{**asking, "remoteIp": "100.64.0.3"}, {**asking, "remoteIp": "100.64.0.99"}],
        }
    )
    device = {"name": "anna-phone", "owner": "people", "kind": "ios"}
    for playbook, data in (
        ("device_list", {}),
        ("device_add", {"device": "anna-phone"}),
        ("device_remove", {"device": "anna-phone"}),
        ("browser_approve", {}),
    ):
        here = coordinator(node, phone, browsers=browsers)
        played = play(playbook, data, here, headscale_devices=[device])
        assert harmless(played.out) and harmless(played.err), playbook
        if playbook == "browser_approve":
            # There are two requests, and no other line looks like one.
            assert len(re.findall(r"^ *request  ", played.err, re.M)) == 2
            assert len(re.findall(r"^\d+\. ", played.err, re.M)) == 2
        if (
            playbook == "device_list"
            and len(name) < 15
            and name.isascii()
            and name.isprintable()
            and name.strip() == name
        ):
            assert name in played.out
    try:
        played = play("browser_approve", {"request": number}, coordinator(node, browsers=browsers))
    except WrongInput as error:
        assert harmless(str(error))
    else:
        assert harmless(played.err) and played.wants[0][1]["request"].pairing.id == number
        assert played.wants[0][1]["name"].isprintable()


@fewer(2)
@given(texts)
@example("\x1b]0;owned\x07")
def test_an_answer_of_the_model_commands_no_terminal(answer: str) -> None:
    said = json.dumps(
        {"choices": [{"message": {"content": answer}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    )
    here, err = Fake("home", says={"cat /token": "t", "curl": said}), io.StringIO()
    with context(here, _Everybody(here)), contextlib.redirect_stderr(err):
        here.do(send_message.ask, message=answer or "x", gateway="home", url="https://x/", token="/token")
    assert all(
        letter.isprintable() or letter in "\n\t" or unicodedata.category(letter) == "Zs" for letter in err.getvalue()
    )
