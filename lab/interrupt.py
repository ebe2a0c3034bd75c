"""Run pyinfra and cut it off at one of its writing steps, as a closed notebook or a broken line does.

Run: python -m lab.interrupt STEP HOW [--but FILE] pyinfra's arguments. STEP counts the commands and uploads of
operations over all hosts, from 1; facts only read and do not count. Neither do steps that FILE lists, a line "HOW HOST:
OPERATION #DIGEST" for each. HOW is

during  the controller dies (SIGKILL) shortly after the step has begun; what it began on the host goes on there
after   the controller dies when the step has ended, before the next begins
cut     the step dies on the host as well, as if the connection had taken it along
power   the whole host goes off during the step; `python -m lab up` switches it on again
off     likewise, but the controller goes on: it has to notice by itself, within seconds here instead of minutes

The run says what it cuts off, in a line "[interrupted] HOW HOST: OPERATION #DIGEST", where the digest tells steps of
one operation apart, and dies of SIGKILL, but for "off". One that comes to its end before STEP has pyinfra's own status.
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
# It makes Python's sockets gevent's, which has to be done before anything opens one.
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
#: Seconds between two questions to a host whether it is there, for "off".
PAUSE = 1
#: Seconds into a step at which it is cut off: a command is at work, an upload has sent something.
COMMAND_SECONDS = 0.05
UPLOAD_SECONDS = 0.3

#: Run on a host: end every login session but the one that does it, with all its processes.
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
        """Do one step, and end the process during or after it when it is the one."""
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
                # Whatever becomes of the step, nothing else may begin.
                if self.how == "after":
                    self._end(connector.host.name)
                ending.join()

    def _end(self, host: str) -> None:
        if self.how == "cut":
            subprocess.run(["lab/ssh", host, END_SESSIONS], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if self.how in ("power", "off"):
            # Its network first: a host without power says nothing, and the kernel would close its connections.
            init = leader(host, chosen_name())
            subprocess.run(["nsenter", f"--target={init}", "--net", "ip", "link", "set", "host0", "down"], check=True)
            os.kill(init, signal.SIGKILL)
        if self.how != "off":
            os.kill(os.getpid(), signal.SIGKILL)


def _operation(connector: Any) -> str:
    """The name of the operation at work, or nothing while none is."""
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
    """Have the process end at that step."""
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
