"""New firewall rules lock nobody out. If anything goes wrong before a new SSH connection confirms them, the old rules
return.

The tests look at the laptop's rules without SSH, through its network namespace, because SSH to it stops working.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from lab.access import leader
from tests.lab.conftest import TestLab
from tests.lab.held import go_on, inside, others
from tests.lab.traces import left_over
from tests.unit.houses import SETTINGS

MORE = {"id": "web", "from": "lan", "to": "clients", "port": "8080/tcp", "over": "lan", "why": "new rules"}
TABLE = f"access_table={json.dumps([*SETTINGS['access_table'], MORE])}"
NEW = ("--limit", "laptop", "--data", TABLE)
#: The steps of a run that only changes the firewall: files are sent, rules are loaded, a new connection confirms them.
#: This is the number of the second one.
LOADED = 2


def on_laptop(lab: TestLab, *command: str, all_of_it: bool = False) -> str:
    """Run a command in the laptop's network namespace, or in `all_of_it`, without SSH. Returns its output."""
    enter = ["nsenter", "--target", str(leader("laptop", lab.name)), "--all" if all_of_it else "--net"]
    return subprocess.run([*enter, *command], capture_output=True, text=True, check=True).stdout


def rules(lab: TestLab) -> str:
    return on_laptop(lab, "nft", "--stateless", "list", "table", "inet", "private_ai")


def timers(lab: TestLab) -> str:
    """The timer units on the laptop that would bring the old rules back."""
    units = ("systemctl", "list-units", "--plain", "--no-legend", "private-ai-firewall-rollback*")
    return on_laptop(lab, *units, all_of_it=True)


def wait_for(true: Callable[[], bool], seconds: float, what: str) -> float:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.5)
    return time.monotonic() - begun


@pytest.fixture
def old(single: TestLab) -> Iterator[str]:
    """The rules of a deployed laptop. After the test, they must be the same again, and no files may be left over."""
    single.deploy()
    found = rules(single)
    file = single.ssh("laptop", "cat /etc/private-ai/firewall.nft")
    assert "dport 22 accept" in found and "8080" not in found
    yield found
    single.deploy()
    assert rules(single) == found
    assert single.ssh("laptop", "cat /etc/private-ai/firewall.nft") == file
    assert left_over(single, "laptop") == []


def test_a_table_that_would_shut_this_computer_out_is_refused_while_planning(single: TestLab, old: str) -> None:
    for data, said in (
        ('admin_networks=["192.0.2.7/32"]', "admin_networks"),
        (TABLE.replace('"22/tcp"', '"2222/tcp"'), "one for 22/tcp"),
    ):
        done = single.pyinfra("--limit", "laptop", "--data", data)
        assert done.returncode != 0
        assert said in done.stderr and "nothing was changed" in done.stderr
        assert rules(single) == old


def test_the_old_rules_return_when_ssh_is_refused(single: TestLab, old: str) -> None:
    with others(single, ["laptop"], "root") as sessions:
        # As soon as the file with the new rules is there, sshd is stopped. Open connections go on.
        gone = "until test -e /etc/private-ai/firewall.nft.tried; do sleep 0.02; done; systemctl stop ssh.socket ssh"
        single.ssh("laptop", f"systemd-run --quiet --collect --unit=gone sh -c '{gone}'")
        try:
            done = single.pyinfra(*NEW)
            assert done.returncode != 0
            assert "not confirmed by a new SSH connection" in done.stderr
            assert "8080" in rules(single), "the new rules were not in force"
            seconds = wait_for(lambda: rules(single) == old, 60, "the old rules did not return")
            go_on(single, sessions)
            print(f"the old rules were back {seconds:.0f} s after the run had given up")
        finally:
            on_laptop(single, "systemctl", "start", "ssh", all_of_it=True)
        # The next run says what happened, and tries the rules again.
        done = single.pyinfra(*NEW)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "taken back on" in done.stderr
        assert "8080" in rules(single)
        # The rules have changed three times, and the connections of other people are still open.
        go_on(single, sessions)


def test_the_old_rules_return_when_the_host_restarts_before_they_were_confirmed(single: TestLab, old: str) -> None:
    done = single.run(
        sys.executable, "-m", "lab.interrupt", str(LOADED), "after", "-y", "inventory.py", "deploy.py", *NEW
    )
    assert done.returncode == -9, done.stderr[-3000:]
    assert "8080" in rules(single), "the new rules were not in force"
    done = single.lab("reboot", "laptop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rules(single) == old
    done = single.pyinfra("--limit", "laptop", "--dry")
    assert "and no new SSH connection confirmed them" in " ".join(done.stderr.split())


def test_new_rules_that_were_not_even_loaded_do_not_stay(single: TestLab, old: str) -> None:
    done = single.run(sys.executable, "-m", "lab.interrupt", "1", "after", "-y", "inventory.py", "deploy.py", *NEW)
    assert done.returncode == -9, done.stderr[-3000:]
    assert left_over(single, "laptop") == ["/etc/private-ai/firewall.nft.tried"]
    assert rules(single) == old


def test_a_run_right_after_one_that_was_killed_begins_from_the_old_rules(single: TestLab, old: str) -> None:
    done = single.run(
        sys.executable, "-m", "lab.interrupt", str(LOADED), "after", "-y", "inventory.py", "deploy.py", *NEW
    )
    assert done.returncode == -9, done.stderr[-3000:]
    assert "8080" in rules(single)
    # This run has the old settings. The timer of the killed run has not ended yet.
    single.deploy()
    assert rules(single) == old
    assert timers(single) == ""


def test_rules_that_cannot_be_loaded_leave_no_timer_and_no_file(single: TestLab, old: str) -> None:
    single.ssh("laptop", "ln -s /bin/false /usr/local/bin/python3")
    try:
        done = single.pyinfra(*NEW)
    finally:
        single.ssh("laptop", "rm /usr/local/bin/python3")
    assert done.returncode != 0
    assert rules(single) == old
    assert left_over(single, "laptop") == []
    assert timers(single) == ""
    # The new rules were never in force, so there is no note that they were taken back.
    assert single.ssh("laptop", "ls /var/lib/private-ai/firewall.* 2>/dev/null", check=False) == ""


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_nobody_is_cut_off_where_somebody_has_emptied_nftables(single: TestLab, old: str, how: str) -> None:
    for host in single.hosts:
        inside(single, host, "nft flush ruleset")
    # These connections begin while no rules track connections. From a server, the house's rules would not allow the
    # outgoing one.
    with others(single, single.hosts, "root") as sessions:
        for host in single.hosts:
            inside(single, host, f"systemctl {how} private-ai-firewall")
        assert rules(single) == old
        go_on(single, sessions)
    assert "private_ai_tracking" not in on_laptop(single, "nft", "list", "tables")
