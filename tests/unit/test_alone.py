"""Of two runs that would change the same host one is refused, and a run that is gone holds nothing."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from operations import alone
from operations.alone import BUSY, CHANGED, HELD, holder
from plan.profile import LAST_RUN

ROOT = Path(__file__).parent.parent.parent
#: Operations that may go on beside a run: one sends a message, one answers a browser, two only wait.
BESIDE = {"ask", "approved", "barrier", "policy_heard"}


class Host:
    """A place with a file of its own for what stands in /run on a host."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "run" / "last-run"

    def comes(self, who: str, before: str | None = None) -> tuple[subprocess.Popen[str], str]:
        """A run that would change something: the process that holds the host for it, and what that said at first."""
        script = holder(who, before).replace(LAST_RUN, str(self.file)).replace("/run/private-ai", str(self.file.parent))
        pipe = subprocess.PIPE
        process = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().rstrip("\n")

    @property
    def says(self) -> str:
        return self.file.read_text().rstrip("\n")


def gone(process: subprocess.Popen[str]) -> int:
    """The run's connection ends, and with it what held the host."""
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
    monkeypatch.setattr(alone, "PATIENCE", 1)
    host = Host(tmp_path)
    silent, said = host.comes("anna@notebook")
    assert said == HELD and silent.wait(timeout=10) == 0
    assert "it ended at 20" in host.says
    silent.communicate()


def test_what_others_called_themselves_is_harmless() -> None:
    assert "\x1b" not in alone._why_not("home", f"{BUSY}\x1b[2Jben@pc", "")


def test_every_operation_that_changes_something_holds_its_hosts_first() -> None:
    found = set()
    for file in (ROOT / "operations").glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and any(
                getattr(each, "func", None) and getattr(each.func, "id", "") == "operation"  # type: ignore[attr-defined]
                for each in function.decorator_list
            ):
                calls = {getattr(each.func, "id", "") for each in ast.walk(function) if isinstance(each, ast.Call)}
                # `compared` says what differs.
                if not calls & {"hold", "differs", "compared"}:
                    found.add(function.name)
    assert found == BESIDE
