"""Connections that other people have open on a lab's hosts during a run. They must still be open and answer
afterwards."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.access import leader
from lab.state import State
from lab.topology import OUTSIDERS
from tests.lab.conftest import TestLab

#: A program that does not belong to the house. It sends a line each half second over one connection, and counts the
#: lines that come back. It ends when the connection ends.
FRIEND = """
import os, socket, sys, time
there = socket.create_connection((sys.argv[1], 5000), 5)
lines, count = there.makefile("r"), 0
while True:
    there.sendall(b"are you there?\\n")
    assert lines.readline() == "are you there?\\n"
    count += 1
    with open("/run/friend.new", "w") as file:
        file.write(str(count))
    os.replace("/run/friend.new", "/run/friend")
    time.sleep(0.5)
"""
ECHO = """
import socket, threading
def serve(one):
    while piece := one.recv(4096):
        one.sendall(piece)
with socket.create_server(("::", 5000), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def inside(lab: TestLab, host: str, command: str) -> str:
    """Run a command as root on a host without SSH, and return its output."""
    enter = ["nsenter", "--target", str(leader(host, lab.name)), "--all", "--", "sh", "-c", command]
    done = subprocess.run(enter, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{host}: {command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@dataclass
class Session:
    """Another administrator's SSH session, which stays open until the test ends it."""

    host: str
    process: subprocess.Popen[str]

    def answers(self, word: str) -> bool:
        """Send a line through the session. Whether it comes back; ssh itself gives up after 15 s without an answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        return any(line.strip() == word for line in iter(self.process.stdout.readline, ""))


@contextmanager
def others(lab: TestLab, hosts: Sequence[str], user: str) -> Iterator[list[Session]]:
    """Open two connections on each host: an incoming SSH session, and an outgoing connection of a service."""
    ssh = ["ssh", "-F", str(State.of(lab.name).ssh_config), "-o", "ControlPath=none", "-l", user]
    there = f"10.{lab.net}.0.66"
    lab.ssh(OUTSIDERS[0], f"systemd-run --quiet --collect --unit=echo python3 -c {shlex.quote(ECHO)}")
    lab.ssh(OUTSIDERS[0], "for i in $(seq 50); do ss -Hltn sport = :5000 | grep -q . && exit; sleep 0.1; done; exit 1")
    with ExitStack() as stack:
        # check=False: by then the host may have been restarted, or the unit may have ended.
        stack.callback(lab.ssh, OUTSIDERS[0], "systemctl stop echo", check=False)
        for host in hosts:
            inside(lab, host, f"systemd-run --quiet --collect --unit=friend python3 -c {shlex.quote(FRIEND)} {there}")
            stack.callback(inside, lab, host, "systemctl stop friend || :")
            inside(lab, host, "for i in $(seq 100); do test -e /run/friend && exit; sleep 0.1; done; exit 1")
        sessions = []
        for host in hosts:
            pipes = subprocess.Popen([*ssh, host, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            sessions.append(Session(host, stack.enter_context(pipes)))
            stack.callback(pipes.kill)
            assert sessions[-1].answers("before")
        yield sessions


def go_on(lab: TestLab, sessions: list[Session]) -> None:
    """Check that the connections of other people still answer, incoming and outgoing ones."""
    for session in sessions:
        assert session.answers(f"after-{time.monotonic()}"), f"{session.host}: another administrator's session was cut"
    for host in (session.host for session in sessions):
        look = (
            'before=$(cat /run/friend); for i in $(seq 100); do [ "$(cat /run/friend)" -gt "$before" ] && exit 0; '
            "sleep 0.1; done; systemctl status friend; exit 1"
        )
        inside(lab, host, look)
