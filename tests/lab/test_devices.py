"""Devices in a deployed house. A page lets a device in, once. A command, or removing it from the settings, puts it out.
Other devices are not disturbed.

The phone is an ordinary tailscaled on `stranger`, which is on the LAN but not in the house. It chooses its own name.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from artifacts.store import find_program
from lab.access import run_on
from tests.lab.browser import browser_in
from tests.lab.conftest import REPO, STAMP, TestLab
from tests.lab.inventories import GROUPS, write_inventory

PAGES = REPO / "enrolment"
NAMES = ("test-phone", "test-tablet")
DEVICES = [
    {"name": "test-phone", "owner": "anna", "kind": "linux"},
    {"name": "test-tablet", "owner": "ben", "kind": "android"},
]
PORT = 18789
CA = "/var/lib/private-ai/ca/ca.crt"
#: Time limit in milliseconds for a page, on a machine that is busy with other labs.
PATIENCE = 120_000
#: A program that asks the gateway again and again, over one connection ("held") and over a new one each time ("new").
#: It writes down when each succeeds or fails.
STREAM = """
import socket, ssl, sys, threading, time
at, end = sys.argv[1], time.time() + float(sys.argv[2])
said, lock = open(sys.argv[3], "w", buffering=1), threading.Lock()
def say(what, good):
    with lock: said.write(f"{time.time():.2f} {what} {'ok' if good else 'failed'}\\n")
def open_stream():
    trusted = ssl.create_default_context()
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    return trusted.wrap_socket(socket.create_connection((at, 18789), 5))
def held():
    try:
        stream = open_stream(); stream.settimeout(5)
        while time.time() < end:
            stream.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: house\\r\\n\\r\\n")
            if not stream.recv(65536): break
            say("held", True); time.sleep(0.1)
        else: return
    except OSError: pass
    say("held", False)
def fresh():
    while time.time() < end:
        try: socket.create_connection((at, 18789), 1).close(); good = True
        except OSError: good = False
        say("new", good); time.sleep(0.2)
threads = [threading.Thread(target=each) for each in (held, fresh)]
for each in threads: each.start()
for each in threads: each.join()
"""


@dataclass(frozen=True)
class Phone:
    """A separate tailscaled on `stranger`. Without `device` it has no network interface, and can only join."""

    lab: TestLab
    name: str
    device: bool = False

    def run(self, command: str, stdin: str | None = None, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return run_on("stranger", command, input=stdin, name=self.lab.name, timeout=seconds)

    def start(self) -> None:
        options = "" if self.device else "--tun=userspace-networking"
        done = self.run(
            f"systemd-run --quiet --unit={self.name} --property=RuntimeDirectory={self.name} "
            f"--setenv=TS_NO_LOGS_NO_SUPPORT=true /opt/phone/tailscaled {options} --port=0 "
            f"--statedir=/opt/phone/{self.name} --socket=/run/{self.name}/socket && "
            f"for i in $(seq 50); do test -S /run/{self.name}/socket && break; sleep 0.1; done"
        )
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        self.run(f"systemctl stop {self.name}")

    def cli(self, arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(f"/opt/phone/tailscale --socket=/run/{self.name}/socket {arguments}", stdin)

    def join(self, key: str, calls_itself: str = "Annas-iPhone") -> bool:
        """Log in with a key. Returns whether the control server has accepted it."""
        self.cli(
            "up --login-server=https://headscale.house.internal:443 --auth-key=file:/dev/stdin "
            f"--hostname={calls_itself} --timeout=15s --force-reauth",
            key,
        )
        return self.state == "Running"

    @property
    def state(self) -> str:
        return str(json.loads(self.cli("status --json").stdout)["BackendState"])

    @property
    def address(self) -> str:
        return self.cli("ip -4").stdout.strip()

    def reaches(self, address: str, port: int) -> bool:
        program = f'import socket; socket.create_connection(("{address}", {port}), 3)'
        return self.run(f"python3 -c {shlex.quote(program)}").returncode == 0


@dataclass
class People:
    """The house with devices in its settings, and two phones: Anna's phone, and another person's."""

    lab: TestLab
    folder: Path
    phone: Phone
    other: Phone

    def inventory(self, *names: str, away: str = "") -> str:
        """Write an inventory file, and return its path. Its settings have these devices, and also a client `away`,
        which cannot be reached."""
        data = {
            "headscale_users": ["people", "anna", "ben"],
            "headscale_devices": [each for each in DEVICES if each["name"] in names],
        }
        folder = self.folder / ("-".join((*names, away)) or "none")
        folder.mkdir(exist_ok=True)
        # An address of the lab's network that no host has.
        groups = {**GROUPS["single"], "clients": ["laptop", *([away] if away else [])]}
        return write_inventory(folder, groups, data, {away: {"ssh_hostname": "192.0.2.9"}})

    def playbook(self, name: str, *arguments: str, inventory: str = "") -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "pyinfra")
        inventory = inventory or self.inventory(*NAMES)
        return self.lab.run(program, "-y", inventory, f"playbooks/{name}.py", *arguments)

    def add(self, name: str) -> str:
        """Make a page for a device. Returns the key that is on the page."""
        done = self.playbook("device_add", "--data", f"device={name}", "-vvv")
        assert done.returncode == 0, done.stderr[-3000:]
        page = PAGES / f"{name}.html"
        assert f"{page}: the page for {name}" in done.stderr
        assert page.stat().st_mode & 0o777 == 0o600 and PAGES.stat().st_mode & 0o777 == 0o700
        found = re.search(r"hskey-auth-[\w-]{60,}", html.unescape(page.read_text()))
        assert found is not None
        assert found[0][:30] not in done.stdout + done.stderr
        return found[0]

    def nodes(self) -> dict[str, int]:
        nodes = json.loads(self.lab.ssh("home", "headscale nodes list -o json"))
        return {node["given_name"]: node["id"] for node in nodes}

    def browsers(self, device: str) -> list[dict[str, object]]:
        """The browsers of a device, as device_list.py shows them."""
        shown = json.loads(self.playbook("device_list", "--data", "json=true").stdout)
        found: list[dict[str, object]] = next(each["browsers"] for each in shown["nodes"] if each["name"] == device)
        return found

    def verify(self, inventory: str) -> subprocess.CompletedProcess[str]:
        reports = str(self.folder / "reports")
        command = (sys.executable, "-m", "pytest", "tests/verify/test_headscale.py", "--inventory", inventory)
        return self.lab.run(*command, "--reports", reports)


@pytest.fixture(scope="module")
def people(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """The house with two devices in its settings, of which none has joined. Afterwards everything is restored."""
    found = People(
        single,
        tmp_path_factory.mktemp("people"),
        Phone(single, "test-phone", device=True),
        Phone(single, "test-other"),
    )
    program = find_program("tailscale", "amd64", "auto")
    assert program is not None
    places = [program.directory / each.path for each in program.files]
    packed = subprocess.run(
        ["tar", "--create", "--transform=s,.*/,,", *(str(each) for each in places)], capture_output=True, check=True
    )
    config = REPO / ".lab" / single.name / "ssh_config"
    subprocess.run(
        ["ssh", "-F", str(config), "stranger", "mkdir -p /opt/phone && tar -C /opt/phone -x"],
        input=packed.stdout,
        check=True,
    )
    single.deploy(inventory=found.inventory(*NAMES))
    ca = single.ssh("home", f"cat {CA}")
    address = single.ssh("home", "sed -n 's/ headscale.house.internal//p' /etc/hosts | head -1")
    prepared = found.phone.run(
        "cp /etc/hosts /opt/phone/hosts; cat > /usr/local/share/ca-certificates/phone.crt && update-ca-certificates "
        f"&& echo {address} headscale.house.internal >> /etc/hosts",
        ca,
    )
    assert prepared.returncode == 0, prepared.stderr
    found.phone.start()
    found.other.start()
    yield found
    found.phone.stop()
    found.other.stop()
    found.phone.run(
        "cat /opt/phone/hosts > /etc/hosts; rm -r /opt/phone /usr/local/share/ca-certificates/phone.crt; "
        "update-ca-certificates"
    )
    for name in NAMES:
        (PAGES / f"{name}.html").unlink(missing_ok=True)
    single.deploy()


def test_a_wrong_name_or_time_is_refused_with_the_next_step(people: People) -> None:
    for arguments, said in (
        (("device=test-fone",), "did you mean 'test-phone'?"),
        (("hours=1",), "add --data device=NAME"),
        (("device=test-phone", "hours=48"), "a whole number from 1 to 24"),
    ):
        done = people.playbook("device_add", *(word for each in arguments for word in ("--data", each)))
        assert done.returncode != 0 and said in done.stderr, done.stderr[-2000:]
    assert not (PAGES / "test-phone.html").exists()


def test_a_device_gets_in_by_its_page_and_its_key_is_good_once(people: People) -> None:
    first, key = people.add("test-phone"), people.add("test-phone")
    assert not people.phone.join(first), "a key that a later one replaced still let somebody in"
    assert people.phone.join(key)
    assert not people.other.join(key, "copied"), "a key let two in"
    home = people.lab.ssh("home", "tailscale ip -4")
    assert people.phone.reaches(home, PORT)
    assert not people.phone.reaches(home, 22)
    assert not people.phone.reaches(people.lab.ssh("laptop", "tailscale ip -4"), 22)
    keys = people.lab.ssh("home", "headscale preauthkeys list -o json")
    again = people.playbook("device_add", "--data", "device=test-phone")
    assert again.returncode == 0 and "has joined already" in again.stderr
    assert people.lab.ssh("home", "headscale preauthkeys list -o json") == keys


def test_two_peoples_devices_do_not_reach_each_other(people: People) -> None:
    assert people.other.join(people.add("test-tablet"), "Bens-Tablet")
    # This tailscaled has no network interface, so it passes incoming connections on to the host's loopback.
    serve = 'import socket, time; held = socket.create_server(("127.0.0.1", 8080)); time.sleep(60)'
    people.phone.run(f"systemd-run --quiet --collect --unit=test-server python3 -c {shlex.quote(serve)}; sleep 2")
    assert people.phone.reaches("127.0.0.1", 8080)
    assert not people.phone.reaches(people.other.address, 8080)


def test_the_verification_counts_devices_and_a_run_gives_them_their_names(people: People) -> None:
    done = people.verify(people.inventory(*NAMES))
    assert done.returncode == 0, done.stdout[-5000:]
    assert "annas-iphone" in people.nodes()
    results = people.lab.deploy(inventory=people.inventory(*NAMES))
    changed = [each["name"] for each in results["operations"] if each["success"]]
    assert changed == ["Devices | Nodes of the VPN", STAMP]
    assert set(people.nodes()) == {"home", "laptop", *NAMES}
    assert people.lab.deploy(inventory=people.inventory(*NAMES))["totals"]["success"] == 0


def test_the_list_says_who_is_there_also_when_a_laptop_is_off(people: People) -> None:
    away = people.inventory(*NAMES, away="desk")
    done = people.playbook("device_list", "--data", "json=true", inventory=away)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout)
    lines = {each["name"]: each for each in shown["nodes"]}
    assert list(lines) == ["desk", "home", "laptop", *NAMES]
    assert lines["test-phone"]["owner"] == "anna" and lines["test-phone"]["addresses"][0] == people.phone.address
    assert lines["test-phone"]["joined"] and lines["test-phone"]["expiry"] and not lines["desk"]["joined"]
    assert shown["browsers_unknown"] == ""
    table = people.playbook("device_list")
    assert table.returncode == 0 and "test-tablet" in table.stdout


def test_a_device_that_left_the_list_fails_the_verification_and_is_removed_after_it_was_announced(
    people: People,
) -> None:
    without = people.inventory("test-phone")
    done = people.verify(without)
    assert done.returncode == 1
    assert "playbooks/device_remove.py --data device=test-tablet" in done.stdout
    program = str(Path(sys.executable).parent / "pyinfra")
    dry = people.lab.run(program, without, "deploy.py", "--dry")
    assert dry.returncode == 0, dry.stderr[-3000:]
    assert f"removes node test-tablet (number {people.nodes()['test-tablet']}, of ben" in dry.stderr
    assert "test-tablet" in people.nodes()
    people.lab.deploy(inventory=without)
    assert set(people.nodes()) == {"home", "laptop", "test-phone"}
    assert people.phone.reaches(people.lab.ssh("home", "tailscale ip -4"), PORT)
    assert people.verify(without).returncode == 0


def test_a_browser_is_listed_with_the_device_it_came_from(people: People) -> None:
    token, ca = (people.lab.ssh("home", f"cat {file}") for file in ("/etc/openclaw/token", CA))
    openclaw = "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect podman exec openclaw openclaw"
    with browser_in(people.lab, "stranger", ca) as browser:
        page = browser.context.new_page()
        page.goto(f"https://home.vpn.house.internal:{PORT}/#token={token}", timeout=PATIENCE)
        expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
        waiting = people.browsers("test-phone")
        assert [each["waits"] for each in waiting] == [True]
        people.lab.ssh("home", f"{openclaw} devices approve {waiting[0]['id']}")
        expect(page.get_by_text("Approve this browser")).to_have_count(0, timeout=PATIENCE)
    assert [each["waits"] for each in people.browsers("test-phone")] == [False]


def test_a_removed_device_is_out_at_once_and_for_good_and_others_are_not_disturbed(people: People) -> None:
    without, old = people.inventory("test-phone"), people.add("test-tablet")
    home = people.lab.ssh("home", "tailscale ip -4")
    stream = f"python3 /run/stream.py {home} 60 /run/stream.log"
    gone = "while headscale nodes list | grep -q test-phone; do sleep 0.1; done; date +%s.%N > /run/gone"
    for host, command in (("stranger", stream), ("laptop", stream), ("home", f"sh -c {shlex.quote(gone)}")):
        run_on(host, "cat > /run/stream.py", input=STREAM, name=people.lab.name)
        run_on(host, f"systemd-run --quiet --collect --unit=test-stream {command}", name=people.lab.name)
    flows = " && ".join(f"grep -q '{kind} ok' /run/stream.log" for kind in ("held", "new"))
    for host in ("stranger", "laptop"):
        people.lab.ssh(host, f'timeout 30 sh -c "until {flows}; do sleep 0.1; done"')
    done = people.playbook("device_remove", "--data", "device=test-phone", inventory=without)
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.search(r"connections cut: (\d+), browser pairings revoked: (\d+)", done.stderr)
    # One is the connection "held". The other may be a connection "new" that was open at that moment.
    assert said and int(said[1]) in (1, 2) and said[2] == "1", done.stderr[-3000:]
    assert "remove test-phone from headscale_devices" in done.stderr
    assert json.loads(people.playbook("device_list", "--data", "json=true").stdout)["other_browsers"] == []
    seen = [line.split() for line in people.phone.run("sleep 6; cat /run/stream.log").stdout.splitlines()]
    last = {what: max(float(at) for at, kind, how in seen if (kind, how) == (what, "ok")) for what in ("held", "new")}
    assert [how for _, kind, how in seen if kind == "held"][-1] == "failed"
    assert [how for _, kind, how in seen if kind == "new"][-3:] == ["failed"] * 3
    removed = float(people.lab.ssh("home", "cat /run/gone"))
    after = {what: at - removed for what, at in last.items()}
    print(f"seconds from the removal to the last success: {after}")
    # The times can be compared, because all hosts of a lab have the machine's clock.
    assert max(after.values()) < 3
    laptop = people.lab.ssh("laptop", "cat /run/stream.log")
    assert "failed" not in laptop and laptop.count("held ok") > 50
    assert set(people.nodes()) == {"home", "laptop"}
    # tailscaled starts again with its old node key, and the control server tells it to log in.
    people.phone.stop()
    people.phone.start()
    time.sleep(5)
    assert people.phone.state != "Running"
    assert not people.phone.reaches(home, PORT)
    assert people.playbook("device_remove", "--data", "device=test-tablet").returncode == 0
    assert not people.phone.join(old), "the key of a removed device let it in"
    record = json.loads(people.lab.ssh("home", "cat /var/lib/private-ai/devices.json"))
    assert record == {}
    assert not (PAGES / "test-tablet.html").exists()
