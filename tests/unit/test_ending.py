"""How runs end that do not end well: nobody can be asked, the answer is no, Ctrl-C, an unexpected error.

pyinfra itself runs here, on this computer, and only with files of the test.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYINFRA = Path(sys.executable).with_name("pyinfra")
TOUCH = "from pyinfra.operations import server\nserver.shell(name='Touch it', commands=['touch {0}/done{1}'])\n"


@contextmanager
def started(folder: Path, text: str, *options: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """Start pyinfra with a deploy file of this text, in a folder outside the project."""
    file = folder / "run.py"
    file.write_text(text)
    command = [str(PYINFRA), "--config", str(ROOT / "config.py"), *options, "--", "@local", str(file)]
    run = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        # This also ends the processes that pyinfra has started.
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def ended(folder: Path, text: str, *options: str, stdin: int = subprocess.DEVNULL) -> tuple[int, str]:
    """The exit status of such a run, and its output on one line."""
    with started(folder, text, *options, stdin=stdin) as run:
        said = run.communicate(timeout=60)[0]
    return run.returncode, " ".join(said.split())


def test_a_run_goes_on_where_it_is_told_to(tmp_path: Path) -> None:
    assert ended(tmp_path, TOUCH.format(tmp_path, ""), "-y")[0] == 0
    assert (tmp_path / "done").exists()


def test_a_refusal_of_ours_is_its_own_words(tmp_path: Path) -> None:
    words = "host home: RAM is '1 GiB' (nothing was changed). Next: add some"
    status, said = ended(tmp_path, f"from tasks.engine.house import WrongInput\nraise WrongInput({words!r})\n", "-y")
    assert status == 1 and said.endswith(f"--> {words}"), said
    assert "pyinfra error" not in said and "run.py line" not in said


def test_what_pyinfra_refuses_is_told_with_its_place_in_the_code(tmp_path: Path) -> None:
    asked = "from pyinfra.operations import server\nserver.shell(name='x', commands=['true'], _timeout='soon')\n"
    status, said = ended(tmp_path, asked, "-y")
    assert status == 1 and "run.py line 2" in said, said


def test_without_a_terminal_and_without_yes_nothing_is_changed(tmp_path: Path) -> None:
    status, said = ended(tmp_path, TOUCH.format(tmp_path, ""))
    assert status == 1 and not (tmp_path / "done").exists()
    assert "nothing was changed" in said and "add -y, or run it in a terminal" in said
    assert "EOFError" not in said and "Traceback" not in said and "bug report" not in said


@pytest.mark.parametrize(("answer", "status"), [("\n", 0), ("no\n", 1), ("\x04", 1)])
def test_an_answer_at_the_terminal(tmp_path: Path, answer: str, status: int) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        found, said = ended(tmp_path, TOUCH.format(tmp_path, ""), stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert found == status, said
    assert (tmp_path / "done").exists() == (status == 0)
    assert ("nothing was changed" in said) == (status == 1)


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_one_signal_ends_a_run_and_its_status_says_so(tmp_path: Path, number: int, word: str) -> None:
    text = TOUCH.format(tmp_path, "; sleep 60")
    with started(tmp_path, text, "-y") as run:
        wait_for(tmp_path / "done", run)
        run.send_signal(number)
        said = run.communicate(timeout=10)[0]
    assert run.returncode == 128 + number
    assert f"Ended by {word}" in said and "the next run finishes the rest. Next: run this again" in said


def test_ctrl_c_before_anything_has_changed_says_so(tmp_path: Path) -> None:
    text = f"import time, pathlib\npathlib.Path('{tmp_path}/done').touch()\ntime.sleep(60)\n"
    with started(tmp_path, text, "-y") as run:
        wait_for(tmp_path / "done", run)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=10)[0]
    assert run.returncode == 130
    assert "nothing was changed" in said and "Next: run" not in said


def wait_for(file: Path, run: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    while not file.exists():
        assert run.poll() is None and time.monotonic() - begun < 60
        time.sleep(0.02)


BROKEN = {
    "while planning": "{}['where']\n",
    "in an operation": (
        "from pyinfra.api import operation\n"
        "@operation()\ndef broken():\n    yield 'true' if state.is_executing is False else {}['where']\n"
        "from pyinfra import state\nbroken(name='Broken')\n"
    ),
    "in a function": (
        "from pyinfra.api import FunctionCommand, operation\n"
        "def fail(state, host):\n    return {}['where']\n"
        "@operation()\ndef broken():\n    yield FunctionCommand(fail, (), {})\nbroken(name='Broken')\n"
    ),
}


@pytest.mark.parametrize("where", BROKEN)
def test_an_error_that_nobody_has_foreseen_is_a_line_and_a_file(tmp_path: Path, where: str) -> None:
    status, said = ended(tmp_path, BROKEN[where], "-y")
    assert status == 1
    log = tmp_path / "pyinfra-debug.log"
    assert "KeyError: 'where'" in said and "(run.py, line " in said and str(log) in said.replace(" ", ""), said
    assert "Traceback" not in said and "bug report" not in said
    assert "Traceback" in log.read_text() and log.stat().st_mode & 0o077 == 0


def test_a_mistake_in_a_file_is_shown_where_it_is(tmp_path: Path) -> None:
    status, said = ended(tmp_path, "coordinator = [\n", "-y")
    assert status == 1
    assert "SyntaxError: '[' was never closed (run.py, line 1)" in said and "Traceback" not in said
