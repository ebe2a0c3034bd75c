"""What a run sends for an upgrade, how it follows it, and how a person goes back."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from pyinfra.api import FunctionCommand
from pyinfra.api.exceptions import FactProcessError

from facts.upgrade import KeptBefore
from operations.engine.run_on_host import RemoteError
from operations.upgrade import follow
from operations.upgrade.back import go_back_script
from operations.upgrade.scripts import next_phase, unit_at_boot
from operations.upgrade.way import Way, job
from plan.engine.difference import difference
from plan.engine.errors import SettingError
from plan.engine.want import Component, File, Have, Program, ProgramPart, SeenPath, Unit
from plan.house.settings import PLAYBOOK_DATA
from plan.upgrade.going_back import LOST, Asked, Kept, asked, lacking, stay, told, way_back
from plan.upgrade.notes import FOLDER, PHASES, WORDS, Note, at_boot, left
from plan.upgrade.versions import PROGRAMS, Installed, Step
from tasks import headscale, ollama, openclaw, tailscale
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tasks.upgrade import going_back
from tests.unit import fakes, houses

STEP = Step("home", "headscale", "0.29.2", "0.29.3")
DONE = Note("headscale", "0.29.2", "0.29.3", "done", 1795900000, 4096)
HOUSE = houses.single()


def wanted() -> Component:
    part = ProgramPart("bin/headscale", Path("/cache"), "a" * 64, 5, "0755")
    return Component(
        programs=(Program("headscale", "0.29.3", (part,), (("/usr/local/bin/headscale", "bin/headscale"),)),),
        files=(File("/etc/headscale/config.yaml", "new", group="headscale", mode="0640", check="grep -q new {}"),),
        units=(
            Unit("headscale.service", ("/usr/local/bin/headscale",), ready="true", then="sleep 1000"),
            Unit("old.socket", stopped=True),
        ),
    )


def opened(stdin: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(stdin))) as tar:
        assert {each.mode for each in tar} == {0o600}
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def test_files_link_and_unit_change_in_one_go_on_the_host() -> None:
    want = wanted()
    old = SeenPath(
        "symbolic link", "root", "root", "0777", 1, target="/opt/private-ai/headscale-0.29.2-x/bin/headscale"
    )
    have = Have(paths={"/usr/local/bin/headscale": old})
    way = Way(STEP, "echo nodes", ("headscale.service",), tries=7)
    made = list(way(difference(want, have)))
    texts = [str(each) for each in made]
    # First all that can stay whatever happens: the new program beside the old one.
    assert sum("/opt/private-ai/headscale-0.29.3" in text for text in texts[:-2]) == 1
    assert not any("ln -sfn" in text or "systemctl restart" in text for text in texts[:-2])
    assert isinstance(made[-1], FunctionCommand) and made[-1].function is follow.followed
    begin = texts[-2]
    assert f"grep -q new {FOLDER}/headscale.part/check/etc/headscale/config.yaml" in begin
    assert begin.rstrip().endswith(f"/bin/sh {FOLDER}/headscale/upgrade run")
    assert subprocess.run(["sh", "-n", "-c", begin], check=True).returncode == 0
    files = opened(str(made[-2].connector_arguments["_stdin"]))
    assert files["paths"].decode().splitlines() == [
        "/etc/headscale/config.yaml",
        "/usr/local/bin/headscale",
        "/var/lib/private-ai/stamps/headscale.service",
    ]
    with tarfile.open(fileobj=io.BytesIO(files["after.tar"])) as tar:
        config, link = tar.getmembers()
    assert (config.name, config.mode, config.gname) == ("etc/headscale/config.yaml", 0o640, "headscale")
    assert link.issym() and link.linkname == f"{want.programs[0].prefix}/bin/headscale"
    said = files["job"].decode()
    assert "DATA=/var/lib/headscale\n" in said and "TRIES=7\n" in said and "ACCOUNT=headscale\n" in said
    # The wait after a start has limits of its own: what counts is looked at, and not waited for without an end.
    assert b"sleep 1000" not in b"".join(files.values())
    for name in ("upgrade", "look", "attempt", "stop", "start", "restart", "stamp", "journal"):
        subprocess.run(["sh", "-n", "-c", files[name].decode()], check=True)


def test_every_program_has_its_way_and_none_without_another_version() -> None:
    older = tuple(Installed(name, "0.29.2" if name == "headscale" else "0.1", "a" * 12) for name in PROGRAMS)
    record = '{"model": "qwen3:8b", "context": 8192, "ram_mib": 1, "vram_mib": 0}'
    profile = replace(fakes.PROFILE, installed=older, machine=replace(fakes.PROFILE.machine, model_record=record))
    this = This(HOUSE, HOUSE.member("home"), profile)
    with patch.object(openclaw, "account_number", lambda: 992):
        ways = {module.__name__: module.way(this) for module in (headscale, tailscale, ollama, openclaw)}
        same = replace(profile, installed=())
        assert not any(module.way(replace(this, profile=same)) for module in (headscale, tailscale, ollama, openclaw))
    for way in ways.values():
        assert way is not None
        for script in (way.look, way.attempt):
            subprocess.run(["sh", "-n", "-c", script], check=True)
        assert unit_at_boot(way.step.program, way.waits).count(f"Before={way.waits[0]}\n") == 1
        assert "LEFT_OUT=" in str(job(way, (), (), ())["job"])
    assert '"model": "qwen3:8b"' in ways["tasks.ollama"].look
    assert ways["tasks.openclaw"].waits == ("user@992.service",)
    unknown = replace(profile, machine=replace(fakes.PROFILE.machine, model_record=""))
    assert ollama.way(replace(this, profile=unknown)).look == "exit 1"  # type: ignore[union-attr]


NODES = """[
  {"id": 1, "machine_key": "mkey:0a", "node_key": "nodekey:1b", "ip_addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"],
   "last_seen": {"seconds": 1795900000}, "given_name": "home"},
  {"machineKey": "mkey:0c", "ipAddresses": ["100.64.0.2"]}
]"""
STATUS = """{
  "BackendState": "Running",
  "TailscaleIPs": [
    "100.64.0.1",
    "fd7a:115c:a1e0::1"
  ],
  "Self": {
    "TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
    "Online": true
  }
}"""


def looked(script: str, program: str, prints: str, folder: Path) -> tuple[int, str]:
    """Run a look with a program that prints this."""
    (folder / "said").write_text(prints)
    (folder / program).write_text(f"#!/bin/sh\ncat {folder}/said\n")
    (folder / program).chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_what_counts_of_headscale_are_its_nodes_in_both_spellings(tmp_path: Path) -> None:
    status, said = looked(headscale.NODES, "headscale", NODES, tmp_path)
    assert status == 0
    assert said.split() == ["nodes", '"100.64.0.1"', '"100.64.0.2"', '"fd7a:115c:a1e0::1"', "mkey:0a", "mkey:0c"]
    assert looked(headscale.NODES, "headscale", "null", tmp_path) == (0, "nodes\n")


def test_what_counts_of_tailscale_is_its_place_in_the_vpn(tmp_path: Path) -> None:
    status, said = looked(tailscale.IN_THE_VPN, "tailscale", STATUS, tmp_path)
    assert status == 0 and said.strip() == '"TailscaleIPs":["100.64.0.1","fd7a:115c:a1e0::1"]'
    for other in (STATUS.replace("Running", "NeedsLogin"), STATUS.replace("true", "false"), ""):
        assert looked(tailscale.IN_THE_VPN, "tailscale", other, tmp_path)[0] != 0


@contextmanager
def answering(*answers: str | Exception) -> Iterator[None]:
    left_over = list(answers)

    def run_on(target: Any, script: str, stdin: str | None = None) -> str:
        answer = left_over.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with patch.object(follow, "run_on", run_on):
        yield


def note(phase: str, why: str = "", works: str = "works") -> str:
    return f"headscale 0.29.2 0.29.3 {phase} 1795900000 1048576\n{why}\n{works}\n"


HOST: Any = SimpleNamespace(name="home", print_prefix="[home] ")


def test_a_run_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(note("look"), note("copy"), note("copy"), note("start"), note("check"), note("done", works="rests")):
        assert follow.followed(None, HOST, STEP)  # type: ignore[arg-type]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5 and "home: headscale 0.29.2 -> 0.29.3: its data are copied (" in said[1]
    assert said[-1].endswith("done; its data of before (1.0 MiB) are kept in /var/lib/private-ai/upgrade/headscale")
    assert {*WORDS} < {*PHASES}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([RemoteError("home: the connection broke")], "The host goes on by itself"),
        (["nonsense\nworks\n"], "The host goes on by itself"),
        ([note("start", works="rests"), note("start", works="rests")], "somebody has ended it on the host"),
        ([note("back", "it did not start", "rests"), "log.new:\nboom"], "0.29.2 is back, with its files and data"),
        ([note("back", "it did not start", "rests"), RemoteError("home: gone")], "the logs cannot be read: home: gone"),
        ([note("stuck", "it did not start", "rests"), ""], "docs/upgrade.md#stuck"),
    ],
)
def test_an_upgrade_that_is_not_done_ends_the_run(
    answers: list[Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(*answers):
        assert not follow.followed(None, HOST, STEP)  # type: ignore[arg-type]
    assert said in caplog.text and "Next: " in caplog.text


def test_what_was_cut_off_is_taken_back_first(caplog: pytest.LogCaptureFixture) -> None:
    with answering("", note("back", "it was ended in the middle").rpartition("works")[0]):
        assert follow._recover(None, HOST, STEP)  # type: ignore[arg-type]
    with answering("", note("stuck", "it was ended").rpartition("works")[0], ""):
        assert not follow._recover(None, HOST, STEP)  # type: ignore[arg-type]
    with answering(RemoteError("home: gone")):
        assert not follow._recover(None, HOST, STEP)  # type: ignore[arg-type]
    assert "could not be taken back" in caplog.text


def test_a_question_waits_for_the_next_phase_and_ends_when_nobody_works(tmp_path: Path) -> None:
    folder = tmp_path / "headscale"
    folder.mkdir()
    (folder / "note").write_text(note("copy").rpartition("works")[0])
    stub = tmp_path / "systemctl"
    stub.write_text("#!/bin/sh\nexit 3\n")
    stub.chmod(0o755)
    script = next_phase("headscale", "copy").replace(FOLDER, str(tmp_path))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=5, check=True)
    assert done.stdout.splitlines()[0].split()[3] == "copy" and done.stdout.endswith("rests\n")


def test_a_way_back_is_asked_for_by_program_and_host() -> None:
    assert asked({"program": "headscale"}, HOUSE) == Asked("headscale", "home")
    assert asked({"program": "tailscale", "on": "laptop"}, HOUSE) == Asked("tailscale", "laptop")
    for data, said in (
        ({}, "--data program is ''"),
        ({"program": "hedscale"}, "did you mean 'headscale'?"),
        ({"program": "tailscale"}, "a host that has tailscale: home, laptop"),
        ({"program": "headscale", "on": "laptop"}, "--data on is 'laptop'; accepted: a host that has headscale: home"),
    ):
        with pytest.raises(SettingError) as error:
            asked(data, HOUSE)
        assert said in str(error.value)


HEADSCALE = Asked("headscale", "home")


def test_only_the_last_upgrade_has_a_way_back() -> None:
    there = (Installed("headscale", "0.29.3", "a" * 12),)
    assert way_back(HEADSCALE, [DONE], there) == (Step("home", "headscale", "0.29.3", "0.29.2"), DONE)
    # A way back that was taken back itself.
    again = Note("headscale", "0.29.3", "0.29.2", "back", 1795900000, 1)
    assert way_back(HEADSCALE, [again], there)[0] == Step("home", "headscale", "0.29.3", "0.29.2")
    for notes, said in (
        ([], "none, since it was not upgraded"),
        ([replace(DONE, at_work=True)], "at work"),
        ([replace(DONE, phase="back", new="0.29.4", old="0.29.3")], "0.29.3 -> 0.29.4, is taken back"),
        ([replace(DONE, new="0.29.4")], "0.29.3 runs, and the last upgrade, 0.29.2 -> 0.29.4, is done"),
    ):
        with pytest.raises(SettingError) as error:
            way_back(HEADSCALE, notes, there)
        assert said in str(error.value) and "host home: the way back of headscale" in str(error.value)


def test_what_is_lost_is_said_before() -> None:
    back = Step("home", "headscale", "0.29.3", "0.29.2")
    lines = told(back, DONE, Kept((), "0123456789ab+"))
    assert "goes back from 0.29.3 to 0.29.2, with its files and data of 2026-11-28 21:06 UTC" in lines[0]
    assert "Devices that joined since have to join again" in lines[1]
    assert lines[2].endswith("To stay at 0.29.2: git checkout 0123456789ab, and deploy that")
    assert "git checkout REVISION" in stay(back, Kept((), "unknown"))
    assert set(LOST) == set(PROGRAMS)
    [problem] = lacking(HEADSCALE, Kept(("/opt/private-ai/headscale-0.29.2-x/bin/headscale",), ""))
    assert "without /opt/private-ai/headscale-0.29.2-x" in str(problem)
    went = replace(DONE, old="0.29.3", new="0.29.2")
    [warning] = left("home", [went], [STEP])
    assert "went back from 0.29.3 to 0.29.2" in warning and "upgrades it again" in warning


def test_what_is_kept_of_the_version_before() -> None:
    command = KeptBefore().command(program="openclaw")
    subprocess.run(["sh", "-n", "-c", command], check=True)
    found = KeptBefore().process(["missing /opt/x", "missing /opt/x", "revision 0123456789ab", "end"])
    assert found == Kept(("/opt/x",), "0123456789ab")
    with pytest.raises(FactProcessError, match="what is kept of the version before was cut short"):
        KeptBefore().process(["missing /opt/x"])


def test_a_way_back_is_made_of_what_the_upgrade_has_kept() -> None:
    script = go_back_script(Step("home", "openclaw", "2026.9.6", "2026.9.4"), ("user@992.service",), "true")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert "OLD=%s\\nNEW=%s\\n' 2026.9.6 2026.9.4 >>job" in script
    assert at_boot("openclaw") in script


def test_a_person_is_told_and_refused_before_anything_changes(capsys: pytest.CaptureFixture[str]) -> None:
    profile = replace(fakes.PROFILE, installed=(Installed("headscale", "0.29.3", "a" * 12),), upgrades=(DONE,))
    this = This(HOUSE, HOUSE.member("home"), profile)
    called: list[dict[str, Any]] = []
    given: dict[str, Any] = {
        "ask": lambda *_, **__: Kept((), "0123456789ab"),
        "gone_back": lambda **arguments: called.append(arguments),
        "host": HOST,
    }
    with patch.multiple(going_back, **given):
        going_back.go_back(this, HEADSCALE)
    assert "lost by that: users, devices" in capsys.readouterr().err
    assert called[0]["waits"] == ("headscale.service",) and called[0]["before"] == ""
    with patch.multiple(going_back, **{**given, "ask": lambda *_, **__: Kept(("/opt/x",), "")}):
        with pytest.raises(WrongInput, match="without /opt/x"):
            going_back.go_back(this, HEADSCALE)
        with pytest.raises(WrongInput, match="nothing was changed: host home: the way back of headscale"):
            going_back.go_back(replace(this, profile=fakes.PROFILE), HEADSCALE)
    assert len(called) == 1


def test_what_playbooks_say_that_they_read_is_accepted() -> None:
    """A name after --data that is not known is refused, since it may be a setting with a typing error."""
    said = {
        name
        for file in (Path(__file__).parents[2] / "playbooks").glob("*.py")
        for name in re.findall(r"--data ([a-z]+)=", file.read_text(encoding="utf-8"))
    }
    assert "program" in said and said <= PLAYBOOK_DATA
