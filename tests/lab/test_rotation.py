"""New keys in a house that goes on: messages are sent all the time. Each playbook runs as people run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from operations.renewal import NODE_KEY, RELAY_KEY
from tests.lab.conftest import TestLab
from tests.lab.talk import talking


@pytest.fixture
def house(split: TestLab) -> TestLab:
    """A deployed house, as after each test."""
    split.deploy()
    return split


def playbook(lab: TestLab, name: str, *arguments: str, good: bool = True) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "pyinfra")
    done = lab.run(program, "-y", lab.inventory, f"playbooks/{name}.py", *arguments)
    assert (done.returncode == 0) == good, done.stdout[-2000:] + done.stderr[-5000:]
    return done


def keys(lab: TestLab) -> dict[str, str]:
    """Digests of the keys that a house has, by their places."""
    places = {
        "hub": ("/etc/headscale/tls/key.pem", RELAY_KEY, "/var/lib/headscale/noise_private.key"),
        "gate": ("/etc/openclaw/tls/key.pem", "/etc/openclaw/tls/next/key.pem"),
    }
    found: dict[str, str] = {}
    for host, paths in places.items():
        for line in lab.ssh(host, f"sha256sum {' '.join(paths)}").splitlines():
            digest, path = line.split()
            found[path] = digest
    return found | {host: lab.ssh(host, NODE_KEY) for host in lab.hosts}


def unchanged(lab: TestLab) -> None:
    results = lab.deploy()
    assert {each["name"]: each["success"] for each in results["operations"] if each["success"]} == {}


def test_each_key_is_new_and_every_message_is_answered(house: TestLab) -> None:
    before = keys(house)
    addresses = {host: house.ssh(host, "tailscale ip") for host in house.hosts}
    for name, data, changed in (
        ("server_keys_rotate", (), {path for path in before if "/tls/" in path}),
        ("relay_key_rotate", (), {RELAY_KEY}),
        *(("node_key_rotate", ("--data", f"on={host}"), {host}) for host in ("laptop", "gate", "hub")),
    ):
        dry = playbook(house, name, *data, "--dry")
        assert keys(house) == before, dry.stderr
        with talking(house) as talk:
            talk.message()
            done = playbook(house, name, *data)
        now = keys(house)
        assert {key for key in now if now[key] != before[key]} == changed, (name, data)
        for secret in now.values():
            assert secret not in done.stdout
        print(f"{name} {' '.join(data[1:])}: {talk}", flush=True)
        before = now
    assert {host: house.ssh(host, "tailscale ip") for host in house.hosts} == addresses
    nodes = json.loads(house.ssh("hub", "headscale nodes list -o json"))
    assert sorted(node["given_name"] for node in nodes) == sorted(house.hosts)
    unchanged(house)


def test_the_old_node_key_is_of_no_use(house: TestLab) -> None:
    """Somebody has copied a host's state before it got a new key."""
    state = "/var/lib/tailscale/tailscaled.state"
    house.ssh("laptop", f"cp -p {state} /root/copied")
    playbook(house, "node_key_rotate", "--data", "on=laptop")
    house.ssh("laptop", f"cp -p {state} /root/new")
    try:
        house.ssh("laptop", f"systemctl stop tailscaled; cp -p /root/copied {state}; systemctl start tailscaled")
        said = house.ssh(
            "laptop",
            "for i in $(seq 30); do said=$(tailscale status --json --peers=false); "
            "case $said in *'\"Online\": true'*) echo online; exit ;; esac; sleep 0.5; done; echo offline",
        )
        assert said == "offline"
    finally:
        house.ssh(
            "laptop", f"systemctl stop tailscaled; mv /root/new {state}; rm /root/copied; systemctl start tailscaled"
        )
    unchanged(house)


@pytest.mark.parametrize(("name", "data"), [("server_keys_rotate", ()), ("relay_key_rotate", ())])
def test_a_run_that_is_cut_off_is_finished_by_the_next(house: TestLab, name: str, data: tuple[str, ...]) -> None:
    for step in (1, 2, 3):
        done = house.run(
            sys.executable,
            "-m",
            "lab.interrupt",
            str(step),
            "during",
            "-y",
            house.inventory,
            f"playbooks/{name}.py",
            *data,
        )
        assert done.returncode in (0, -9), done.stderr[-3000:]
    playbook(house, name, *data)
    with talking(house) as talk:
        talk.message()
    unchanged(house)


def test_wrong_input_changes_nothing(house: TestLab) -> None:
    before = keys(house)
    done = playbook(house, "node_key_rotate", "--data", "on=lapptop", good=False)
    assert "--data on is 'lapptop'" in done.stderr and "nothing was changed" in done.stderr
    assert keys(house) == before
