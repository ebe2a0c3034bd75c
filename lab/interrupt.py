"""Run pyinfra and interrupt it at one of the steps that change something, as a closed notebook or a broken line would.

Run: python -m lab.interrupt STEP HOW [--but FILE] pyinfra's arguments. STEP is the number of a step, from 1. The
commands and uploads of operations are counted, over all hosts. Facts only read, so they are not counted. Steps that
FILE lists are not counted either; it has a line "HOW HOST: OPERATION #DIGEST" for each. HOW is

during  the controller dies (SIGKILL) shortly after the step has begun; the command on the host goes on
after   the controller dies when the step has ended, before the next step begins
cut     the controller dies, and the command on the host is killed too
power   the whole host is switched off during the step; `python -m lab up` switches it on again
off     the host is switched off in the same way, but the controller goes on. It must notice by itself that the host is
        gone; here this takes seconds instead of minutes

The run prints which step it interrupts, in a line "[interrupted] HOW HOST: OPERATION #DIGEST". The digest distinguishes
the steps of one operation. Except with "off", the run then dies of SIGKILL. If a run ends before STEP, its exit status
is pyinfra's own.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

# isort: off
# This import replaces Python's sockets with gevent's, and must come before any module opens a socket.
from pyinfra_cli.main import main as pyinfra_main  # type: ignore[import-untyped]
import gevent
from pyinfra.api import Host
# isort: on

from lab.access import leader
from lab.state import chosen_name
from operations.engine import pyinfra_inside, upload
from operations.engine.pyinfra_inside import RUN_COMMAND
from plan.engine.upload_folder import INCOMING
from tasks.engine import connection

WAYS = ("during", "after", "cut", "power", "off")
#: With "off": seconds between two questions to a host whether it is still there.
PAUSE = 1
#: A step is interrupted so many seconds after its beginning. Then a command is running, or an upload has sent a part.
COMMAND_SECONDS = 0.05
UPLOAD_SECONDS = 0.3

#: A command for a host that ends every login session, with all its processes, except the session that runs the command.
END_SESSIONS = (
    "mine=$(grep -o 'session-[^/]*[.]scope' /proc/self/cgroup); "
    "for scope in $(systemctl list-units --type=scope --plain --no-legend 'session-*' | cut -d' ' -f1); do "
    '[ "$scope" = "$mine" ] || systemctl kill --signal=KILL "$scope"; done'
)


class Steps:
    """Counts the steps of this process and ends it at one of them."""

    def __init__(self, step: int, how: str, but: Collection[str]) -> None:
        self.step, self.how, self.but = step, how, but
        self.count = 0

    def at(self, connector: Any, what: object, seconds: float, work: Callable[[], Any]) -> Any:
        """Do one step. If it is the step to interrupt, end the process during or after it."""
        digest = hashlib.sha256(str(what).encode()).hexdigest()[:6]
        said = f"{self.how} {connector.host.name}: {_operation(connector)} #{digest}"
        self.count += said not in self.but
        mine = said not in self.but and self.count == self.step
        if mine:
            print(f"[interrupted] {said}", file=sys.stderr, flush=True)
            if self.how != "after":
                ending = gevent.spawn_later(seconds, self._end, connector.host.name)
        try:
            return work()
        finally:
            if mine:
                # Also if the step has failed, no other step may begin.
                if self.how == "after":
                    self._end(connector.host.name)
                ending.join()

    def _end(self, host: str) -> None:
        if self.how == "cut":
            subprocess.run(["lab/ssh", host, END_SESSIONS], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if self.how in ("power", "off"):
            # First its network is cut: a host without power sends nothing, but here the kernel would close its
            # connections.
            init = leader(host, chosen_name())
            subprocess.run(["nsenter", f"--target={init}", "--net", "ip", "link", "set", "host0", "down"], check=True)
            os.kill(init, signal.SIGKILL)
        if self.how != "off":
            os.kill(os.getpid(), signal.SIGKILL)


def _operation(connector: Any) -> str:
    """The name of the operation that is running, or "" if none is."""
    operation = pyinfra_inside.operation_of(connector.host)
    return ", ".join(pyinfra_inside.names_of(connector.state, operation)) if operation else ""


def _asked_by_a_fact() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith("pyinfra/api/facts.py"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def interrupt(step: int, how: str, but: Collection[str]) -> None:
    """Make this process end at that step."""
    steps = Steps(step, how, but)
    if how == "off":
        connection.PAUSE = PAUSE
    run, put = RUN_COMMAND.now(), upload.send

    def run_shell_command(self: Any, *arguments: Any, **named: Any) -> Any:
        if not self.state.is_executing or _asked_by_a_fact():
            return run(self, *arguments, **named)
        return steps.at(self, arguments[0], COMMAND_SECONDS, lambda: run(self, *arguments, **named))

    def send(host: Host, local: Path, name: str, sha256: str, folder: str = INCOMING) -> Any:
        return steps.at(host.connector, name, UPLOAD_SECONDS, lambda: put(host, local, name, sha256, folder))

    RUN_COMMAND.put(run_shell_command)
    upload.send = send


def main() -> None:
    if len(sys.argv) < 4 or not sys.argv[1].isdigit() or sys.argv[2] not in WAYS:
        sys.exit(f"usage: python -m lab.interrupt STEP {'|'.join(WAYS)} [--but FILE] pyinfra's arguments")
    arguments, but = sys.argv[3:], frozenset[str]()
    if arguments[0] == "--but" and len(arguments) > 1:
        arguments, but = arguments[2:], frozenset(Path(arguments[1]).read_text().splitlines())
    interrupt(int(sys.argv[1]), sys.argv[2], but)
    sys.argv = ["pyinfra", *arguments]
    pyinfra_main()


if __name__ == "__main__":
    main()
