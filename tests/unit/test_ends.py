"""The messages with which a deployment ends because of a person, a host or a program on this computer."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from paramiko import SSHException
from pyinfra.api import Config, Inventory, State
from pyinfra.api import facts as facts_of_pyinfra
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_inventory, ctx_state

from facts.ca import CaCertificate, CaOther, OtherAuthority
from facts.engine.component_state import ComponentState
from facts.headscale import Headscale, HeadscaleState
from facts.ollama import Stores
from facts.tailscale import Tailscale, TailscaleState
from operations.ca.server import issue
from operations.devices.nodes import _remove
from operations.engine.answers import NotYet
from operations.engine.component import make_account, start_unit
from operations.engine.run import this_run
from operations.engine.run_on_host import RemoteError, run_on
from operations.engine.upload import receive
from operations.firewall import keep_rules
from operations.ollama import answers
from operations.tailscale import join
from plan.devices.vpn_nodes import Tidy
from plan.engine.errors import SettingError
from plan.engine.want import Account, Component, File, Have, Unit
from tasks import base, ca, ollama_model, openclaw
from tasks.devices import named_device, ready
from tasks.engine import hosts, programs, questions, unforeseen_errors
from tasks.engine import house as this_house
from tasks.engine.begin import _refuse_unknown_limit
from tasks.engine.house import WrongInput
from tests.unit import houses
from tests.unit.fakes import CHOICE, PROFILE, Fake, bare, context
from tests.unit.test_artifacts_fetch import closed_port


def state_of(*names: str) -> State:
    """pyinfra's state of a run that has not connected to any host yet. At these hosts no sshd listens."""
    data = {"ssh_hostname": "127.0.0.1", "ssh_port": closed_port()}
    make: Any = Inventory
    state, settings = State(), cast(Any, Config)()
    state.init(make(([(name, data) for name in names], {}), clients=([names[0]] if names else [], {})), settings)
    return state


@pytest.fixture
def nobody_answers() -> Any:
    """A pyinfra host at which no sshd listens."""
    return state_of("home").inventory.get_host("home")


def text(said: str) -> str:
    return " ".join(said.split())


# Nobody to ask.


@pytest.mark.parametrize(
    ("typed", "said"),
    [("", "nobody can be asked here: standard input is no terminal"), ("no\n", "stopped by your answer")],
)
def test_a_question_without_a_yes_ends_the_run(monkeypatch: pytest.MonkeyPatch, typed: str, said: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    with pytest.raises(PyinfraError, match=rf"{said}.*\(nothing was changed\)\. Next: "):
        questions.go_on(SimpleNamespace(current_stage=StateStage.Prepare))


def test_a_jump_host_whose_key_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(SSHException, match=r"SSH does not know the host jump on the way.*Next: run `ssh jump` once"):
        questions.key_is_right("No host key for jump found in known_hosts", yes=False)


# What the command line says.


def test_an_inventory_without_hosts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_run().command_line, "inventory", "empty.py")
    with pytest.raises(PyinfraError, match=r"inventory is 'empty.py'; accepted: at least one host"):
        _refuse_unknown_limit(state_of())


def test_a_limit_that_leaves_no_host_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_run().command_line, "limit", ("hoem",))
    state = state_of("home", "laptop")
    monkeypatch.setattr(state, "is_host_in_limit", lambda host: False)
    with pytest.raises(PyinfraError, match=r"'hoem'; accepted: a host \(home, laptop\) or a group \(clients\)"):
        _refuse_unknown_limit(state)


def test_a_limit_that_matches_in_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_run().command_line, "limit", ("home", "lpatop"))
    entries = [houses.entry("home", "gateway"), houses.entry("laptop", "clients")]
    with ctx_inventory.use(state_of("home").inventory), pytest.raises(SettingError, match="--limit is 'lpatop'; acc"):
        this_house._check_limit(entries)


def test_a_device_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_run().command_line, "data", {})
    with pytest.raises(WrongInput, match=r"--data device is None; .*Next: add --data device=NAME"):
        named_device(houses.single())


KNOWN = HeadscaleState(True, {"anna": 1, "ben": 2}, (), (), {})


@pytest.mark.parametrize(
    ("facts", "says", "said"),
    [
        ({CaCertificate: ""}, "", "the house has no CA"),
        ({Headscale: HeadscaleState(True, {"anna": 1}, (), (), {})}, "", "Headscale has no user ben"),
        ({Headscale: HeadscaleState(False, {}, (), (), {})}, "", "Headscale does not answer"),
        ({}, "none\n", "its gateway gate is not deployed"),
        ({}, None, "gate could not be reached over SSH: "),
        ({}, "", ""),
    ],
)
def test_a_device_whose_way_in_is_not_there_is_refused_before_anybody_is_asked(
    facts: dict[type, object], says: str | None, said: str, nobody_answers: Any
) -> None:
    house = houses.pair(headscale_devices=[{"name": "phone", "owner": "ben", "kind": "ios"}])
    home = Fake("home", {Headscale: KNOWN, CaCertificate: "PEM", CaOther: OtherAuthority(), **facts})
    gate: Any = nobody_answers if says is None else Fake("gate", says={"test -s /token": says})
    if says is None:
        gate.name = "gate"
    with context(home, {"home": home, "gate": gate}):
        if not said:
            ready(house, house.devices[0], "/token")
            return
        with pytest.raises(WrongInput, match=rf"^device phone is ['\"]{said}.*\(nothing was changed\)$") as error:
            ready(house, house.devices[0], "/token")
    assert "Next: run the deployment" in str(error.value)


def test_all_that_is_wrong_with_a_host_is_said_at_once() -> None:
    wrong = [SettingError("host home: RAM", "1 MiB", "more", "add some"), SettingError("host home: cpu", "x", "y", "z")]
    with pytest.raises(WrongInput, match=r"^nothing was changed:\n    host home: RAM is .*\n    host home: cpu is"):
        base._say(wrong, [])


# Hosts that cannot be reached, or are not there yet.


def test_hosts_that_could_not_be_reached_are_named_before_any_change() -> None:
    state = state_of("home", "laptop")
    with ctx_state.use(state), ctx_inventory.use(state.inventory), pytest.raises(WrongInput) as error:
        this_house.check_reached()
    assert str(error.value).startswith("home, laptop could not be reached over SSH (nothing was changed). Next: ")


def test_a_host_that_another_one_needs_is_named(nobody_answers: Any) -> None:
    with pytest.raises(RemoteError, match="home could not be reached over SSH: "):
        run_on(nobody_answers, "true")


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return text(" ".join(record.getMessage() for record in caplog.records))


def test_a_certificate_that_nobody_signs_is_told(caplog: pytest.LogCaptureFixture, nobody_answers: Any) -> None:
    here: Any = Fake("laptop", bare("100.64.0.1"))
    question = {"owner": "x", "names": "DNS:home.vpn.house.internal", "successor": False}
    assert not issue(None, here, "/etc/x/tls", question, nobody_answers)  # type: ignore[arg-type]
    assert "no certificate for DNS:home.vpn.house.internal: home could not be reached over SSH" in logged(caplog)


def test_a_host_that_gets_no_key_is_told(caplog: pytest.LogCaptureFixture, nobody_answers: Any) -> None:
    here: Any = Fake("laptop", bare("100.64.0.1"))
    control = "https://headscale.house.internal:443"
    assert not join(None, here, nobody_answers, control, ("tag:gateway",), "", False, False)  # type: ignore[arg-type]
    assert "could not join the VPN: home could not be reached over SSH" in logged(caplog)


def test_what_another_host_has_to_be_first_is_said() -> None:
    house = houses.split()
    fake = Fake("brain", {Tailscale: TailscaleState("", "", "", frozenset(), (), False, (), False)})
    with context(fake, {"brain": fake}), pytest.raises(NotYet, match="brain has no VPN address before it has joined"):
        hosts.vpn_of(house.member("brain"))
    gate = Fake("gate", {**bare("100.64.0.2"), ComponentState: Have()})
    openclaw._numbers().clear()
    of_gate = hosts.This(house, house.member("gate"), PROFILE)
    with context(gate, {"gate": gate}), pytest.raises(NotYet, match="the account openclaw has no number before it is"):
        openclaw._container(of_gate, "image", 18789)


def test_the_authority_has_to_be_there_first(monkeypatch: pytest.MonkeyPatch) -> None:
    house, home = houses.single(), Fake("home", bare("100.64.0.1"))
    monkeypatch.setattr(ca, "component", lambda name, want: want())
    with context(home, {"home": home}), pytest.raises(NotYet, match="the CA is made on the coordinator first"):
        ca.deploy_trust(hosts.This(house, house.member("home"), PROFILE))


def test_a_device_that_stays_somewhere_is_told(caplog: pytest.LogCaptureFixture, nobody_answers: Any) -> None:
    leaves = Tidy((), (7,), {}, None)
    assert not _remove(None, nobody_answers, houses.single(), "phone", leaves, [])  # type: ignore[arg-type]
    assert "phone is not removed everywhere: home could not be reached over SSH" in logged(caplog)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            ["what is this", "end"],
            "the state of a component is not understood: .*'what is this'.* Next: run this",
        ),
        (None, r"it has not answered facts\.engine\.component_state\.ComponentState\. Next: run this again"),
    ],
)
def test_an_answer_that_is_not_understood_is_told_in_our_words_and_without_the_question(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: list[str] | None, said: str
) -> None:
    state = state_of("home")
    home: Any = state.inventory.get_host("home")
    home.connected = True
    lines = [OutputLine("stdout", line) for line in answer or ()]
    monkeypatch.setattr(home, "run_shell_command", lambda *_, **__: (answer is not None, CommandOutput(lines)))
    monkeypatch.setattr(facts_of_pyinfra, "log_error_or_warning", unforeseen_errors.unanswered)
    wanted = Component(files=(File("/etc/x", "its content"),))
    with ctx_state.use(state), pytest.raises(PyinfraError, match="No hosts remaining"):
        home.get_fact(ComponentState, component=wanted)
    assert re.search(said, logged(caplog))
    assert "its content" not in caplog.text


# What this computer's own programs do.


def test_what_could_not_be_obtained_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WrongInput, match=r"obtaining headscale failed, see above \(nothing was changed\)"):
        programs.program("headscale", "amd64", houses.single())


def test_a_cache_that_was_filled_elsewhere_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(WrongInput, match="headscale for amd64 is not in the cache after it was obtained"):
        programs.program("headscale", "amd64", houses.single())


def test_a_model_that_is_not_there_after_all_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/true")
    monkeypatch.setattr(ollama_model, "choice_of", lambda _: CHOICE)
    monkeypatch.setattr(ollama_model, "_stores_of", lambda _: Stores(frozenset(), {}, {}))
    with pytest.raises(WrongInput, match=f"the model {CHOICE.entry.name} is not in the cache after it was obt"):
        ollama_model.model_of(houses.single().member("home"))


# What hosts' own programs say: the scripts run here, with systemctl as a function.


def script(lines: str, stdin: bytes = b"") -> str:
    """The standard error of a script, which must fail."""
    done = subprocess.run(
        ["sh", "-c", f"systemctl() {{ :; }}\njournalctl() {{ :; }}\n{lines}"],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr.decode()


def test_an_account_without_a_systemd_of_its_own_is_told() -> None:
    tools = "\n".join(
        f"{name}() {{ :; }}" for name in ("getent", "usermod", "touch", "grep", "install", "loginctl", "sleep")
    )
    tools += "\nid() { echo nobody; }"
    shows = 'systemctl() { [ "$1" = status ] && echo "PAM failed: Permission denied"; }'
    make = make_account(Account("openclaw", "/var/lib/openclaw", runs_containers=True))
    said = script(f"{tools}\n{shows}\n{make}")
    assert said == "the systemd of the account openclaw did not start\nPAM failed: Permission denied\n"
    # If something else has failed, that is the reason.
    assert script(f"{tools}\nloginctl() {{ echo no bus >&2; false; }}\n{make}") == "no bus\n"


def test_a_unit_that_does_not_get_ready_is_told() -> None:
    said = script(start_unit(Unit("x.service", ready="false", ready_seconds=0)))
    assert "x.service was not ready within 0 s" in said


@pytest.mark.parametrize("shown", ["ActiveState=failed\nExecMainStatus=78", "ExecMainStatus=78\nActiveState=failed"])
def test_a_unit_that_has_given_up_is_told_at_once_and_in_words(shown: str) -> None:
    unit = Unit("x.service", ready="false", ready_seconds=60, final=(78, "see its page"))
    shows = f"""systemctl() {{ case $1 in show) printf '{shown}\n' ;; esac; }}"""
    assert "x.service ended with status 78 and is not started again: see its page" in script(
        f"{shows}\n{start_unit(unit)}"
    )


@pytest.mark.parametrize("shown", ["ActiveState=active\nExecMainStatus=78", "ActiveState=failed\nExecMainStatus=1"])
def test_a_unit_that_ends_otherwise_is_waited_for(shown: str) -> None:
    unit = Unit("x.service", ready="false", ready_seconds=1, final=(78, "see its page"))
    shows = f"""systemctl() {{ case $1 in show) printf '{shown}\n' ;; esac; }}"""
    assert "was not ready within 1 s" in script(f"{shows}\n{start_unit(unit)}")


def test_rules_that_are_not_there_any_more_are_not_kept() -> None:
    assert "they were taken back already" in script(keep_rules(()))


def test_a_file_that_does_not_arrive_whole_is_not_taken(tmp_path: Path) -> None:
    receiving = receive("name", 10, "0" * 64, str(tmp_path))
    assert "it was cut off" in script(receiving, b"123")


def test_a_model_that_gives_no_token_is_told() -> None:
    here = Fake("home", bare("100.64.0.1"))
    with context(here, {"home": here}):
        here.do(answers, model_name="tiny:1b", manifest="m", context=8192, port=closed_port())
    assert "Ollama does not answer with tiny:1b: " in script(here.commands[-1])
