"""A person at the controller who follows the quick start: an ordinary account of this machine, with a clone of the
project.

The account is made for one test. At the end it is removed, with its home folder and its processes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import pwd
import re
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from artifacts import cache
from lab.lived_in import way
from lab.state import current_lab
from lab.topology import Host, Lab
from tests.lab.conftest import REPO, TestLab

QUICK_START = REPO / "docs/quick-start.md"
#: The addresses of the server and the laptop on the page. People replace them by their own.
SERVER, LAPTOP = "192.168.1.10", "192.168.1.20"
#: Question of one of the page's commands -> the person's answer. The key goes into the usual file, without a
#: passphrase; host keys are accepted; the run goes on after its plan.
ANSWERS = {
    "Enter file in which to save the key": "",
    "Enter passphrase": "",
    "Enter same passphrase": "",
    "Press enter to execute": "",
    "Are you sure you want to continue connecting": "yes",
}


def commands(section: str) -> list[str]:
    """The shell commands in a section of the quick start, unchanged."""
    below = QUICK_START.read_text().split(f"\n## {section}", 1)[1].split("\n## ", 1)[0]
    blocks: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    return [line for language, block in blocks if not language for line in block.splitlines() if line.strip()]


def python_block(section: str) -> str:
    """The first block of Python in a section of the quick start."""
    below = QUICK_START.read_text().split(f"\n## {section}", 1)[1]
    found = re.search(r"^```python\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    assert found is not None, section
    return found[1]


@dataclass(frozen=True)
class Person:
    """An account, and the lab with the hosts of this person's household."""

    name: str
    home: Path
    lab: Lab

    @property
    def clone(self) -> Path:
        return self.home / "private-ai"

    def does(self, command: str, seconds: int = 900, answers: Mapping[str, str] = ANSWERS) -> tuple[int, str]:
        """Run a command at a terminal in the clone. Returns its status, and what the terminal showed.

        Each known question is answered when it is asked. At an unknown question, the command waits until its time is
        over, and the test fails.
        """
        controller, terminal = pty.openpty()
        record = pwd.getpwnam(self.name)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, b"\x32\x00\x90\x01" + bytes(4))  # 50 lines of 400 letters
        child = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.clone,
            env={"HOME": str(self.home), "USER": self.name, "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
            user=record.pw_uid,
            group=record.pw_gid,
            extra_groups=[],
        )
        os.close(terminal)
        try:
            shown = _converse(controller, answers, time.monotonic() + seconds)
            return child.wait(10), shown
        finally:
            child.kill()
            child.wait()
            os.close(controller)

    def succeeds(self, command: str, seconds: int = 900) -> str:
        status, shown = self.does(command, seconds)
        assert status == 0, f"{command}: status {status}\n{shown[-8000:]}"
        return shown

    def own(self, command: str, host: Host) -> str:
        """A command of the page, with the host's own address, account and port."""
        into = way(self.lab, host)
        port = "" if into.port == 22 else f"-p {into.port} "
        return command.replace(f"ssh root@{SERVER}", f"ssh {port}{into.user}@{host.v4}")

    def write(self, path: str, text: str) -> None:
        """Write a file that belongs to the person. `path` is relative to the home folder."""
        file = self.home / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        os.chown(file, pwd.getpwnam(self.name).pw_uid, pwd.getpwnam(self.name).pw_gid)

    def data(self, host: Host) -> str:
        """The data of a host, for its line in the inventory."""
        into = way(self.lab, host)
        port = "" if into.port == 22 else f', "ssh_port": {into.port}'
        sudo = "" if into.user == "root" else ', "_sudo": True'
        return f'"ssh_hostname": "{host.v4}", "ssh_user": "{into.user}"{port}{sudo}'


def _converse(controller: int, answers: Mapping[str, str], end: float) -> str:
    """Answer questions until the last program has left the terminal. Returns everything that the terminal showed."""
    shown, read = "", 0
    os.set_blocking(controller, False)
    while time.monotonic() < end:
        try:
            piece = os.read(controller, 65536)
        except BlockingIOError:
            time.sleep(0.05)
            continue
        except OSError:  # no program uses the terminal any more
            return shown
        if not piece:
            return shown
        shown += piece.decode(errors="replace")
        for question, answer in answers.items():
            if question in shown[read:]:
                read = len(shown)
                os.write(controller, f"{answer}\n".encode())
    raise AssertionError(f"not at its end in time; the terminal shows:\n{shown[-6000:]}")


@contextmanager
def person(lab: TestLab) -> Iterator[Person]:
    """A new account with a home folder, a clone, the cache and the Python environment. It is removed afterwards."""
    name = f"person-{os.getpid()}"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    try:
        who = Person(name, Path(pwd.getpwnam(name).pw_dir), current_lab(lab.name))
        _lay(who)
        yield who
    finally:
        _end_processes(pwd.getpwnam(name).pw_uid)
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def _lay(who: Person) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = who.clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO / name, target)
    # The same cache as after `make prepare`. Obtaining everything again would take minutes, and other tests do that.
    for part in ("programs", "models", "downloads"):
        _link(cache.root() / part, who.home / ".cache/private-ai" / part)
    _environment(who)
    record = pwd.getpwnam(who.name)
    for folder, _, files in os.walk(who.home):
        for entry in (folder, *(f"{folder}/{each}" for each in files)):
            # Files with a second link belong to the project. The account only reads them.
            if entry == folder or os.lstat(entry).st_nlink == 1:
                os.chown(entry, record.pw_uid, record.pw_gid, follow_symlinks=False)


def _environment(who: Person) -> None:
    """Make what `make .venv/ready` makes, but from the packages that are installed here. With a package registry it
    takes minutes on a busy machine, and .ci does that. If the account's Python has another version, nothing is made
    here, and `make` does it."""
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    version = "import sys; print(sys.version_info[:2])"
    if python is None or _said(python, version) != _said(sys.executable, version):
        return
    there = Path(sys.prefix).resolve()
    here = who.clone / ".venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(here)], check=True)
    packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    _link(there / packages, here / packages)
    for script in (there / "bin").iterdir():
        text = script.read_bytes() if script.is_file() and not script.is_symlink() else b""
        if text.startswith(f"#!{there}/bin/python".encode()):
            (here / "bin" / script.name).write_bytes(text.replace(str(there).encode(), str(here).encode(), 1))
        elif script.name in ("ruff", "mypy"):
            shutil.copy2(script, here / "bin" / script.name)
        if (here / "bin" / script.name).exists() and not script.is_symlink():
            (here / "bin" / script.name).chmod(0o755)
    ready = here / "ready"
    ready.touch()


def _said(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def _link(source: Path, target: Path) -> None:
    """Give a folder's files a second link below `target`. If they are on another disk, copy them."""

    def one(file: str, place: str) -> None:
        try:
            os.link(file, place)
        except OSError:
            shutil.copy2(file, place)

    shutil.copytree(source, target, copy_function=one, dirs_exist_ok=True)


def _end_processes(uid: int) -> None:
    """End the processes that the account has left, for example connections that ssh keeps for a minute."""
    for _ in range(100):
        mine = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _owner(entry) == uid]
        if not mine:
            return
        for pid in mine:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _owner(entry: Path) -> int:
    try:
        return entry.stat().st_uid
    except OSError:
        return -1
