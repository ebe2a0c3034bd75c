"""Runs the commands of a build: writes a log, shows the progress, and gives a useful message when a command fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import cache
from artifacts.errors import ArtifactError, CommandError

if TYPE_CHECKING:
    from artifacts.progress import Board, Stage

TAIL = 20  # lines of a failed command that are shown
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_running: set[subprocess.Popen[bytes]] = set()
_running_lock = threading.Lock()
_ending = threading.Event()


def run(
    command: list[str],
    stage: Stage,
    log_name: str,
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Runs a command. Appends its output to logs/LOG_NAME.log, and shows its last line at the stage.

    `env`: variables in addition to this process's environment. Returns the last lines of the output (at most TAIL).
    Raises CommandError when the command is missing or ends with another status than 0.
    """
    if _ending.is_set():
        raise CommandError(f"{stage.name}: not begun, the run is being ended")
    log = cache.folder("logs") / f"{log_name}.log"
    tail: deque[str] = deque(maxlen=TAIL)
    with log.open("ab") as file:
        file.write(f"\n$ {' '.join(command)}\n".encode())
        file.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"{stage.name}: {command[0]} cannot be run: {error}") from error
        with _running_lock:
            _running.add(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                text = _ESCAPES.sub("", line.decode(errors="replace")).rstrip()
                if text:
                    stage.text = text
                    tail.append(text)
            status = process.wait()
        finally:
            end(process)
            with _running_lock:
                _running.discard(process)
    if status:
        raise CommandError(
            f"{stage.name}: {command[0]} ended with status {status}; the last lines:\n"
            + "\n".join(f"  | {line}" for line in tail)
            + f"\nThe whole log: {log}"
        )
    return "\n".join(tail)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and its child processes, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """Ends all commands that this process has started and that still run, for example after Ctrl-C."""
    _ending.set()
    with _running_lock:
        processes = list(_running)
    for process in processes:
        end(process)


def ensure_packages(names: list[str], board: Board) -> None:
    """Installs missing Debian packages. Raises ArtifactError when packages are missing and the account is not root."""
    if not names:
        return
    if shutil.which("dpkg-query") is None:
        raise ArtifactError(f"this is not a Debian or Ubuntu machine; install what provides: {' '.join(names)}")
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *names], capture_output=True, text=True
    )
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(("ii ", "ii"))}
    missing = [name for name in names if name not in installed]
    if not missing:
        return
    if os.geteuid() != 0:
        raise ArtifactError(f"Debian packages are missing; next: sudo apt-get install {' '.join(missing)}")
    with board.stage(f"Debian packages {' '.join(missing)}") as stage:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], stage, "apt", env=quiet)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], stage, "apt", env=quiet)
