"""If two runs want to change the same host, one is refused. A run that has ended holds nothing."""

from __future__ import annotations

import ast
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from pyinfra.api.exceptions import PyinfraError

from operations.engine import one_run
from operations.engine.one_run import BUSY, CHANGED, HELD, OWN_BACKUP, BusyError, holder
from operations.engine.run import this_run
from operations.engine.run_on_host import ConnectionLost
from plan.base.profile import LAST_RUN
from tests.unit import test_upload as upload

ROOT = Path(__file__).parent.parent.parent
#: Operations that may run while another run changes hosts: one sends a message, one approves a browser, two only wait.
BESIDE = {"ask", "approved", "barrier", "policy_heard"}


class Host:
    """A fake host with a file of its own in the place of the host's file in /run."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "run" / "last-run"

    def comes(self, who: str, before: str | None = None) -> tuple[subprocess.Popen[str], str]:
        """Start a run that wants to change something. Returns the process that holds the host, and its first line."""
        script = holder(who, before).replace(LAST_RUN, str(self.file)).replace("/run/private-ai", str(self.file.parent))
        pipe = subprocess.PIPE
        process = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().rstrip("\n")

    @property
    def says(self) -> str:
        return self.file.read_text().rstrip("\n")


def gone(process: subprocess.Popen[str]) -> int:
    """End the run's connection, and with it the process that held the host."""
    process.communicate(timeout=10)
    return process.returncode


def test_a_second_run_is_refused_and_told_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.168.1.2 50514 192.168.1.10 22")
    host = Host(tmp_path)
    first, said = host.comes("anna@it's me")
    assert said == HELD
    second, said = host.comes("ben@pc")
    assert said.startswith(f"{BUSY}anna@it's me from 192.168.1.2 since 20") and said.endswith(" UTC")
    assert gone(second) == 1
    assert gone(first) == 0
    third, said = host.comes("ben@pc")
    assert said == HELD and gone(third) == 0


def test_a_host_that_makes_a_backup_by_itself_is_not_changed_meanwhile(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.file.parent.mkdir()
    told = host.file.parent / Path(OWN_BACKUP).name
    command = [
        "flock",
        "--close",
        str(host.file),
        "sh",
        "-c",
        f"echo the backup of this host itself >{told}; read -r _",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as backup:
        while not told.exists():
            pass
        refused, said = host.comes("ben@pc", before="")
        assert said == f"{BUSY}the backup of this host itself" and gone(refused) == 1
        backup.communicate(b"\n")
    told.unlink()
    # It leaves the note of runs as it was, so a run that was planned before goes on.
    first, said = host.comes("ben@pc", before="")
    assert said == HELD and gone(first) == 0


def test_options_of_roots_own_shell_are_not_for_what_holds_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".bashrc").write_text("set -o noclobber\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    # With this variable, bash thinks that sshd has started it.
    monkeypatch.setenv("SSH_CLIENT", "192.168.1.2 50514 22")
    monkeypatch.setenv("SHLVL", "0")
    host = Host(tmp_path)
    for run in ("anna", "ben"):
        process, said = host.comes(run)
        assert said == HELD
        gone(process)


def test_a_run_that_planned_before_another_one_was_at_work_is_refused(tmp_path: Path) -> None:
    host = Host(tmp_path)
    first, _ = host.comes("anna@notebook", "")
    while_at_work = host.says
    gone(first)
    for before in ("", while_at_work):
        late, said = host.comes("ben@pc", before)
        assert said.startswith(f"{CHANGED}anna@notebook from ") and gone(late) == 1
    after, said = host.comes("ben@pc", host.says)
    assert said == HELD and gone(after) == 0


def test_a_run_that_gives_no_sign_of_life_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "PATIENCE", 1)
    host = Host(tmp_path)
    silent, said = host.comes("anna@notebook")
    assert said == HELD and silent.wait(timeout=10) == 0
    assert "it ended at 20" in host.says
    silent.communicate()


def test_what_others_called_themselves_is_harmless() -> None:
    assert "\x1b" not in str(one_run._why_not("home", f"{BUSY}\x1b[2Jben@pc", ""))


class Sshd(upload.Sshd):
    """An sshd that allows so many sessions at a time on a connection."""

    def __init__(self, sessions: int) -> None:
        super().__init__()
        self.sessions = sessions

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.sessions -= 1
        return super().check_channel_request(kind, chanid) if self.sessions >= 0 else 1

    def _run(self, channel: Any, command: bytes) -> None:
        # The client may have gone before there is an answer.
        with suppress(EOFError, OSError):
            super()._run(channel, command)


@contextmanager
def connected(sessions: int = 10) -> Iterator[Any]:
    """A host with a real SSH connection. Its commands run on this computer."""
    here, there = socket.socketpair()
    server, client = paramiko.Transport(there), paramiko.Transport(here)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(event=threading.Event(), server=Sshd(sessions))
    client.start_client(timeout=10)
    client.auth_none("root")
    yield upload.Host(SimpleNamespace(client=SimpleNamespace(get_transport=lambda: client)))
    client.close()
    server.close()


@pytest.fixture
def last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "run" / "last-run"
    monkeypatch.setattr(one_run, "LAST_RUN", str(file))
    return file


def test_a_host_is_held_for_as_long_as_the_connection_lives(last_run: Path) -> None:
    with connected() as one, connected() as two:
        channel = one_run._held(one)
        with pytest.raises(BusyError, match=r"another run is at work on home: .* This run has changed nothing"):
            one_run._held(two)
        assert not channel.exit_status_ready()
    # The connection has ended, so the host is not held any more.
    subprocess.run(["flock", "-w", "10", last_run, "true"], check=True)
    with connected() as three:
        one_run._held(three)


def test_a_host_that_another_run_has_changed_meanwhile_is_not_held(last_run: Path) -> None:
    last_run.parent.mkdir()
    last_run.write_text("anna@notebook from 192.168.1.2 since 2026-11-28 13:20:20 UTC\n")
    one_run.seen("home", "")
    with connected() as host, pytest.raises(BusyError, match=r"meanwhile \(anna@notebook from 192.168.1.2 since 2026"):
        one_run._held(host)


def test_a_host_that_cannot_be_held_says_why(last_run: Path) -> None:
    last_run.parent.write_text("no folder")
    with connected() as host, pytest.raises(BusyError, match=r"cannot be held for this run: mkdir"):
        one_run._held(host)


def test_an_sshd_that_allows_one_session_is_told_before_anything_changes(last_run: Path) -> None:
    with connected(sessions=1) as host:
        with pytest.raises(BusyError, match="sshd allows one session at a time"):
            one_run._held(host)
        # The host is not held any more, although the connection goes on.
        subprocess.run(["flock", "-w", "10", last_run, "true"], check=True)


def test_a_connection_that_is_lost_before_the_first_change_is_told(last_run: Path) -> None:
    with connected() as host:
        host.connector.client.get_transport().close()
        with pytest.raises(ConnectionLost, match=r"the connection to home was lost .*; nothing was changed"):
            one_run._held(host)


def test_a_run_that_was_let_go_ends_before_its_next_change(last_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "PATIENCE", 1)
    with connected() as host:
        channel = this_run().holds.held[host.name] = one_run._held(host)
        one_run._still_held()
        channel.recv_exit_status()
        with pytest.raises(PyinfraError, match="does not hold itself for this run any more"):
            one_run._still_held()


def test_every_operation_that_changes_something_holds_its_hosts_first() -> None:
    found = set()
    for file in (ROOT / "operations").rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and any(
                getattr(each, "func", None) and getattr(each.func, "id", "") == "operation"  # type: ignore[attr-defined]
                for each in function.decorator_list
            ):
                calls = {getattr(each.func, "id", "") for each in ast.walk(function) if isinstance(each, ast.Call)}
                # `compared` calls `differs`, which holds the hosts.
                if not calls & {"hold", "differs", "compared"}:
                    found.add(function.name)
    assert found == BESIDE
