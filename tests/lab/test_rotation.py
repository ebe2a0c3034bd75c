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


OTHER = "/usr/local/share/ca-certificates/private-ai-house.other.crt"
OWN = OTHER.replace(".other", "")


def trusted(lab: TestLab, host: str) -> set[str]:
    """Names of the authorities of the house in the system's store of a host, from which programs read."""
    said = lab.ssh(
        host,
        "openssl crl2pkcs7 -nocrl -certfile /etc/ssl/certs/ca-certificates.crt | openssl pkcs7 -print_certs -noout | "
        "sed -n 's/^subject=CN *= *\\(Private AI .*\\)/\\1/p'",
    )
    return set(said.splitlines())


def issuers(lab: TestLab) -> set[str]:
    """The names of those that have signed what the servers really serve to the laptop."""
    ask = "openssl s_client -connect {0}:{1} -verify_return_error -verify_hostname {0} </dev/null 2>/dev/null"
    ask += " | openssl x509 -noout -issuer | sed 's/^issuer=CN *= *//'"
    servers = (("headscale.house.internal", 443), ("gate.vpn.house.internal", 18789))
    return {lab.ssh("laptop", ask.format(*server)) for server in servers}


def status(lab: TestLab) -> str:
    return playbook(lab, "status").stderr


def test_a_new_authority_comes_in_three_steps_and_every_message_is_answered(house: TestLab) -> None:
    first, second = "Private AI house CA", "Private AI house CA 2"
    if first not in issuers(house):
        pytest.fail(f"the house has had a new authority already: {issuers(house)}")
    assert "new authority" not in status(house)

    dry = playbook(house, "ca_rotate", "--dry")
    assert "Step 1 of 3" in dry.stderr and trusted(house, "laptop") == {first}
    with talking(house) as talk:
        talk.message()
        playbook(house, "ca_rotate")
    print(f"step 1: {talk}", flush=True)
    assert all(trusted(house, host) == {first, second} for host in house.hosts)
    assert issuers(house) == {first}
    unchanged(house)

    # A host that has lost it again is named, and the next step is refused.
    house.ssh("brain", f"mv {OTHER} /root/other; update-ca-certificates --fresh >/dev/null 2>&1")
    assert "not trusted by: brain" in " ".join(status(house).split())
    refused = playbook(house, "ca_rotate", good=False)
    assert "brain: it does not trust the new authority" in refused.stderr and "nothing was changed" in refused.stderr
    house.ssh("brain", f"mv /root/other {OTHER}; update-ca-certificates >/dev/null 2>&1")
    house.deploy()

    with talking(house) as talk:
        talk.message()
        # The controller dies in the middle; then the same call does the rest.
        cut = ("-m", "lab.interrupt", "1", "after", "-y", house.inventory, "playbooks/ca_rotate.py")
        assert house.run(sys.executable, *cut).returncode == -9
        talk.message()
        house.deploy()
    print(f"step 2, cut off and finished by a deployment: {talk}", flush=True)
    assert issuers(house) == {second}
    assert all(trusted(house, host) == {first, second} for host in house.hosts)
    unchanged(house)
    assert "trusted by: brain, gate, hub, laptop" in status(house)

    with talking(house) as talk:
        talk.message()
        done = playbook(house, "ca_rotate")
    print(f"step 3: {talk}", flush=True)
    assert "Step 3 of 3" in done.stderr
    assert all(trusted(house, host) == {second} for host in house.hosts)
    assert house.ssh("hub", "ls /var/lib/private-ai/ca") == "ca.crt\nca.key"
    assert "new authority" not in status(house)
    unchanged(house)


def test_wrong_input_changes_nothing(house: TestLab) -> None:
    before = keys(house)
    done = playbook(house, "node_key_rotate", "--data", "on=lapptop", good=False)
    assert "--data on is 'lapptop'" in done.stderr and "nothing was changed" in done.stderr
    assert keys(house) == before
