"""The table of all hosts: what a state means, what a missing state means, and that hosts which are off do not stop
it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from operations.health import STATE, look_script
from plan.health import HEAD, OLD_MINUTES, Answer, Line, Look, Seen, ago, line, look_of, table_rows
from tests.unit import houses

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"time": 1, "state": "ok", "since": 1, "checks": []}',
        '{"time": 1, "state": "fine", "since": 1, "checks": [{"check": "a", "state": "ok", "says": "b"}]}',
        '{"time": 1, "state": "ok", "since": 1, "checks": [{"check": "a", "state": "?", "says": "b"}]}',
        '{"time": "soon", "state": "ok", "since": 1, "checks": [{"check": "a", "state": "ok", "says": "b"}]}',
    ],
)
def test_a_state_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        look_of(text)


HOUSE = houses.single()
LOOK = Look(
    1000,
    "warning",
    400,
    (
        Seen("certificate /a", "ok", "has 200 days left", 200),
        Seen("certificate /b", "warning", "has 20 days left", 20),
        Seen("VPN", "ok", "is joined", 9),
    ),
)


def test_a_line_says_what_is_not_well() -> None:
    found = line(HOUSE.member("home"), Answer(True, LOOK, 1300))
    assert found == Line(
        "home",
        ("coordinator", "gateway", "model_hosts"),
        "warning",
        False,
        ("certificate /b has 20 days left",),
        300,
        900,
        {"/a": 200, "/b": 20},
    )
    head, row = table_rows([found])
    assert head == HEAD
    assert row == (
        "home",
        "coordinator, gateway, model_hosts",
        "warning",
        "certificate /b has 20 days left",
        "5 min ago",
        "20 days",
        "",
    )
    backup = replace(LOOK, checks=(*LOOK.checks, Seen("backup", "warning", "is 31 days old", 31)))
    found = line(HOUSE.member("home"), Answer(True, backup, 1300))
    assert found.backup_days == 31 and table_rows([found])[1][-1] == "31 days old"
    both = replace(backup, checks=(*backup.checks, Seen("own backup", "ok", "is 0 days old", 0)))
    found = line(HOUSE.member("home"), Answer(True, both, 1300))
    assert table_rows([found])[1][-1] == "31 days old\nown: 0 days old"
    assert line(HOUSE.member("home"), Answer(True, replace(LOOK, state="failed"), 1300)).bad


def test_words_of_a_host_command_no_terminal() -> None:
    found = line(HOUSE.member("home"), Answer(True, why="\x1b[2J\u202e"))
    assert table_rows([found])[1][3] == "\\x1b[2J\\u202e"


@pytest.mark.parametrize("age", [OLD_MINUTES * 60 + 1, -61])
def test_a_state_that_is_too_old_or_from_the_future_is_bad_whatever_it_says(age: int) -> None:
    found = line(HOUSE.member("laptop"), Answer(True, replace(LOOK, state="ok"), 1000 + age))
    assert found.state == "old" and found.bad and "private-ai-health.timer" in found.not_well[0]
    assert line(HOUSE.member("laptop"), Answer(True, LOOK, 1000 + OLD_MINUTES * 60)).state == "warning"


def test_a_computer_that_is_off_is_no_failure_and_a_server_is() -> None:
    off = Answer(False, why="no route")
    laptop, home = (line(HOUSE.member(name), off) for name in ("laptop", "home"))
    assert (laptop.state, laptop.bad, home.state, home.bad) == ("not reached", False, "not reached", True)
    unknown = line(HOUSE.member("laptop"), Answer(True, why="it has not looked at itself yet"))
    assert (unknown.state, unknown.bad) == ("unknown", True)
    assert table_rows([laptop])[1] == ("laptop", "clients", "not reached", "no route", "", "", "")


def test_how_long_ago() -> None:
    assert [ago(seconds) for seconds in (0, 119, 120, 7199, 7200, 172800)] == [
        "0 s ago",
        "119 s ago",
        "2 min ago",
        "119 min ago",
        "2 h ago",
        "2 d ago",
    ]


def test_asking_prints_time_and_state_and_looks_first_when_the_state_is_older_than_a_stamp(tmp_path: Path) -> None:
    folder, stamps, started = tmp_path / "health", tmp_path / "stamps", tmp_path / "started"
    stub = tmp_path / "bin" / "systemctl"
    for each in (folder, stamps, stub.parent):
        each.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$*" >> {started}\n')
    stub.chmod(0o755)

    def ask(now: bool = False) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"}
        script = look_script(now, str(folder), (str(stamps), str(tmp_path / "deployed.json")))
        return subprocess.run(["sh", "-c", script], env=env, text=True, capture_output=True, check=False)

    bare = ask()
    assert bare.returncode != 0 and "it has not looked at itself yet" in bare.stderr
    (folder / "state.json").write_text("{}")
    (stamps / "ollama.service").write_text("stamp")
    for path in (stamps, stamps / "ollama.service"):
        os.utime(path, (1, 1))
    moment, _, rest = ask().stdout.partition("\n")
    assert abs(int(moment) - time.time()) < 60 and rest.partition(f"{STATE}\n")[2] == "{}"
    assert not started.exists()
    ask(now=True)
    assert started.read_text() == "start private-ai-health.service\n"
    os.utime(stamps / "ollama.service", (time.time() + 5,) * 2)
    ask()
    assert started.read_text() == "start private-ai-health.service\n" * 2
    os.utime(stamps / "ollama.service", (1, 1))
    (tmp_path / "deployed.json").write_text("{}")
    os.utime(tmp_path / "deployed.json", (time.time() + 5,) * 2)
    ask()
    assert started.read_text() == "start private-ai-health.service\n" * 3


def status(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make status` for a house of which no host can be reached."""
    at = {
        name: f'{{"ssh_hostname": "127.0.0.1", "ssh_port": 1, "lan_addresses": ["{address}"]}}'
        for name, address in (("home", "10.77.0.11"), ("laptop", "10.77.0.20"))
    }
    file = folder / "inventory.py"
    groups = {"coordinator": "home", "gateway": "home", "model_hosts": "home", "clients": "laptop"}
    file.write_text("".join(f'{group} = [("{name}", {at[name]})]\n' for group, name in groups.items()))
    pyinfra = str(Path(sys.executable).parent / "pyinfra")
    return subprocess.run(
        [pyinfra, "-y", str(file), "playbooks/status.py", *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )


def test_the_table_comes_even_when_nobody_can_be_reached(tmp_path: Path) -> None:
    done = status(tmp_path)
    assert done.returncode == 1, done.stderr
    assert [row.split("│")[1:4:2] for row in done.stdout.splitlines() if "not reached" in row] == [
        [" home   ", " not reached "],
        [" laptop ", " not reached "],
    ]
    alone = status(tmp_path, "--limit", "laptop", "--data", "json=true")
    assert alone.returncode == 0, alone.stderr
    assert [each["state"] for each in json.loads(alone.stdout)["hosts"]] == ["not reached"]
    wrong = status(tmp_path, "--data", "now=soon")
    assert wrong.returncode == 1 and "--data now is 'soon'; accepted: true or false" in wrong.stderr
