"""A deployed house checks itself between runs. It names what is wrong, tells it once, and is well after a
deployment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from plan.health import FOLDER, SERVICE, TIMER
from tasks.health import HOOK, NOTIFY
from tests.lab.breakages import ca
from tests.lab.conftest import STAMP, TestLab
from tests.lab.test_bare import UNREACHABLE, write_inventory

#: An administrator's own program. It writes a line to the journal. If something has failed, it does not end.
NOTE = """#!/bin/sh
read -r first
logger -t health-hook "$1 $(id -u): $first"
[ "$1" != failed ] || exec sleep 600
"""
TLS = "/etc/headscale/tls"


@pytest.fixture(scope="module")
def house(single: TestLab) -> Iterator[TestLab]:
    """A deployed house that is well, with an administrator's program on `home`."""
    single.deploy()
    assert status(single, "--data", "now=true")[0] == 0
    single.ssh("home", f"install -m 0755 /dev/stdin {HOOK} <<'END'\n{NOTE}END")
    yield single
    single.ssh("home", f"rm -f {HOOK}")
    single.deploy()


def status(lab: TestLab, *arguments: str, inventory: str = "") -> tuple[int, Mapping[str, dict[str, Any]]]:
    """The exit status of `make status`, and its report of each host."""
    command = (".venv/bin/pyinfra", "-y", inventory or lab.inventory, "playbooks/status.py")
    done = lab.run(*command, "--data", "json=true", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, {each["host"]: each for each in json.loads(done.stdout)["hosts"]}


def told(lab: TestLab) -> list[str]:
    """The calls of the administrator's program: state, account and first line of each."""
    return lab.ssh("home", "journalctl --sync; journalctl -q -o cat -t health-hook --no-pager").splitlines()


def test_a_deployed_house_is_well(house: TestLab) -> None:
    found, hosts = status(house)
    assert found == 0, hosts
    for host in house.hosts:
        assert hosts[host]["state"] == "ok" and hosts[host]["not_well"] == [] and hosts[host]["age_s"] < 900
        assert f"{host} is ok since " in house.ssh(host, f"systemctl status --no-pager {SERVICE}", check=False)
        assert house.ssh(host, f"systemctl is-active {TIMER}") == "active"
    assert sorted(hosts["home"]["certificates"].values()) == [824, 824, 3649]


def test_what_went_wrong_is_named_told_once_and_gone_after_a_deployment(house: TestLab) -> None:
    before = told(house)
    house.ssh(
        "home",
        "set -e; systemctl stop ollama; nft delete table inet private_ai\n"
        f"{ca.signed(TLS, ca.CONTROL, ca.PAST)}\ntouch /run/reboot-required",
    )
    found, hosts = status(house, "--data", "now=true")
    assert found == 1
    assert (hosts["home"]["state"], hosts["laptop"]["state"]) == ("failed", "ok")
    for words in (
        "ollama.service is inactive (loaded)",
        "private-ai-firewall.service has other rules in force, or another file of rules, than the deployment loaded",
        f"certificate {TLS}/cert.pem has expired",
        "headscale.service runs with other files or another program than the deployment started it with",
        "reboot is pending",
    ):
        assert words in hosts["home"]["not_well"]
    assert len(hosts["home"]["not_well"]) == 5
    # The administrator's program still runs, with an account of its own. The look has not waited for it.
    assert status(house, "--data", "now=true")[0] == 1
    (call,) = told(house)[len(before) :]
    assert call.startswith("failed 6") and ": home is failed since " in call
    house.ssh("home", "rm /run/reboot-required")
    done = house.deploy()
    changed = {each["name"] for each in done["operations"] if each["success"]}
    assert {"Firewall | Rules of the access table", "Headscale | Certificate", "Ollama | Program, service"} <= changed
    # `make status` did not ask for a new look. The host makes one, because its state is from before the deployment.
    found, hosts = status(house)
    assert (found, hosts["home"]["state"], hosts["home"]["not_well"]) == (0, "ok", [])
    deadline = time.monotonic() + 20
    while len(told(house)) < len(before) + 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert told(house)[-1].startswith("ok 6") and len(told(house)) == len(before) + 2


def test_a_program_that_hangs_is_ended(house: TestLab) -> None:
    # The program was started in the test above, with the state `failed`.
    deadline = time.monotonic() + 90
    unit = f"{NOTIFY}@failed.service"
    while house.ssh("home", f"systemctl show -p ActiveState --value {unit}") == "activating":
        assert time.monotonic() < deadline
        time.sleep(2)
    assert house.ssh("home", f"systemctl show -p Result --value {unit}") == "timeout"
    house.ssh("home", f"systemctl reset-failed {unit}")


def test_a_host_that_does_not_look_any_more_is_bad_whatever_it_said(house: TestLab) -> None:
    long_ago = 's/^  "time": .*/  "time": 1700000000,/'
    # The service is stopped too: a look that is running would write a new state.
    house.ssh("laptop", f"systemctl stop {TIMER} {SERVICE}; sed -i '{long_ago}' {FOLDER}/state.json")
    found, hosts = status(house)
    assert found == 1, hosts
    assert (hosts["laptop"]["state"], hosts["home"]["state"]) == ("old", "ok")
    assert TIMER in hosts["laptop"]["not_well"][0]
    done = house.deploy()
    assert {each["name"]: each["success"] for each in done["operations"] if each["success"]} == {
        "Health | Program, timer": ["laptop"],
        STAMP: ["laptop"],
    }
    assert status(house)[0] == 0


def test_a_host_that_has_no_state_is_not_well(house: TestLab) -> None:
    house.ssh("laptop", f"systemctl stop {TIMER} {SERVICE}; rm {FOLDER}/state.json")
    found, hosts = status(house)
    assert (found, hosts["laptop"]["state"]) == (1, "unknown")
    assert "has not looked at itself" in hosts["laptop"]["not_well"][0]
    house.ssh("laptop", f"systemctl start {TIMER}")
    assert status(house, "--limit", "laptop", "--data", "now=true")[0] == 0


def test_a_computer_that_is_off_does_not_hide_the_others(house: TestLab, tmp_path: Path) -> None:
    found, hosts = status(house, inventory=write_inventory(tmp_path, clients=UNREACHABLE))
    assert {name: each["state"] for name, each in hosts.items()} == {
        "ghost": "not reached",
        "home": "ok",
        "laptop": "ok",
    }
    assert found == 0, "a person's computer may be off"


def test_a_state_is_no_change(house: TestLab) -> None:
    assert house.deploy()["totals"]["success"] == 0
