"""Two runs at the same time: one ends well, the other is refused before it changes anything. A killed run holds
nothing.

To keep a run busy, the test holds dpkg's lock, for which apt waits. So both runs are there at the same time.
"""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plan.base.profile import LAST_RUN
from tests.lab.conftest import REPO, TestLab
from tests.lab.held import inside
from tests.lab.traces import left_over

PYINFRA = str(Path(sys.executable).parent / "pyinfra")
#: A command that succeeds on a host that a run holds.
IS_HELD = f"test -e {LAST_RUN} && ! flock -n {LAST_RUN} true"
#: A program that keeps dpkg's lock until its standard input ends.
KEEP = (
    "import fcntl, sys; file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('kept', flush=True); sys.stdin.read()"
)


@pytest.fixture
def house(single: TestLab) -> Iterator[TestLab]:
    single.deploy()
    yield single
    single.deploy()
    for host in single.hosts:
        assert left_over(single, host) == []


@contextmanager
def dpkg_kept(lab: TestLab, host: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds dpkg's lock on a host, until its standard input is closed."""
    command = ["lab/ssh", host, f'python3 -c "{KEEP}"']
    with subprocess.Popen(
        command, cwd=REPO, env=lab.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None and keeper.stdin is not None
        assert keeper.stdout.readline() == "kept\n"
        yield keeper


@contextmanager
def begun(lab: TestLab) -> Iterator[subprocess.Popen[str]]:
    """A run of the whole house that has begun and goes on meanwhile."""
    with subprocess.Popen(
        [PYINFRA, "-y", lab.inventory, "deploy.py"],
        cwd=REPO,
        env=lab.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def ended_first(runs: list[subprocess.Popen[str]], seconds: float) -> subprocess.Popen[str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for run in runs:
            if run.poll() is not None:
                return run
        time.sleep(0.2)
    raise AssertionError("no run has ended")


def test_of_two_runs_one_ends_well_and_the_other_is_refused(house: TestLab) -> None:
    house.ssh("laptop", "apt-get -qq purge curl >/dev/null")
    with dpkg_kept(house, "laptop") as keeper, begun(house) as one, begun(house) as two:
        runs = [one, two]
        refused = ended_first(runs, 120)
        [other] = (run for run in runs if run is not refused)
        said = refused.communicate()[0]
        assert other.poll() is None, "both have ended"
        assert keeper.stdin is not None
        keeper.stdin.close()
        went_on = other.communicate(timeout=300)[0]
    assert refused.returncode == 1, said
    # `home` is first in the alphabet: every run asks the hosts in this order.
    who = f"another run is at work on home: {getpass.getuser()}@"
    assert who in said and f" from 10.{house.net}.0.1 since " in said, said
    assert "Next: wait until the other run has ended" in said and "Traceback" not in said
    assert "Success" not in said, "it has changed something"
    assert other.returncode == 0, went_on[-4000:]
    assert house.ssh("laptop", "command -v curl") == "/usr/bin/curl"


def test_other_playbooks_are_refused_too_and_looks_are_not(house: TestLab) -> None:
    house.ssh("laptop", "apt-get -qq purge curl >/dev/null")
    with dpkg_kept(house, "laptop") as keeper, begun(house) as run:
        inside(house, "home", f"for i in $(seq 600); do {IS_HELD} && exit; sleep 0.1; done; exit 1")
        token = house.ssh("home", "sha256sum /etc/openclaw/token")
        done = house.run(PYINFRA, "-y", house.inventory, "playbooks/token_rotate.py")
        assert done.returncode == 1 and "another run is at work on home" in done.stderr, done.stderr[-3000:]
        assert house.ssh("home", "sha256sum /etc/openclaw/token") == token
        done = house.run(PYINFRA, house.inventory, "playbooks/diff.py")
        assert done.returncode == 1 and "package curl" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
        # A run that has nothing to change on its host is not refused.
        done = house.run(PYINFRA, "-y", house.inventory, "deploy.py", "--limit", "home")
        assert done.returncode == 0, done.stderr[-3000:]
        assert keeper.stdin is not None
        keeper.stdin.close()
        said = run.communicate(timeout=300)[0]
    assert run.returncode == 0, said[-4000:]


def test_a_run_that_was_killed_holds_nothing(house: TestLab) -> None:
    house.ssh("laptop", "apt-get -qq purge curl >/dev/null")
    with dpkg_kept(house, "laptop") as keeper, begun(house) as run:
        for host in house.hosts:
            inside(house, host, f"for i in $(seq 600); do {IS_HELD} && exit; sleep 0.1; done; exit 1")
        run.kill()
        run.communicate()
        # The hosts are free as soon as the connection is gone, not after the time limit.
        for host in house.hosts:
            inside(house, host, f"flock -w 5 {LAST_RUN} true")
        assert keeper.stdin is not None
        keeper.stdin.close()
    # The killed run has started apt-get on the laptop. This run waits until it has ended.
    house.deploy()
    assert house.ssh("laptop", "command -v curl") == "/usr/bin/curl"
