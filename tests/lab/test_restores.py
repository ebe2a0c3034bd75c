"""Houses that lose hosts in several ways, and come back from their backups: `make restores`.

Each test has labs of its own, since it takes the house's hosts away.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from artifacts.store import find_program
from lab.state import State, write_whole
from operations.devices.nodes import PAGES
from plan.backup.restoring import RESTORED
from tests.lab.browser import browser_in
from tests.lab.conftest import REPO, TestLab, bring_up
from tests.lab.inventories import GROUPS
from tests.lab.restoring import Backed, refused
from tests.lab.test_devices import Phone
from tests.lab.test_interruptions import walk
from tests.lab.test_moved import address, places
from tests.lab.test_ui import ANSWERS, COMPOSER, PAGE, PATIENCE, approve, ask, write

CA = "/usr/local/share/ca-certificates/private-ai-house.crt"
PEOPLE = ["people", "anna"]
KEPT, GONE = "anna-phone", "lost-phone"


def device(name: str) -> dict[str, str]:
    return {"name": name, "owner": "anna", "kind": "linux"}


def backed(lab: TestLab, folder: Path) -> Backed:
    groups = {group: list(hosts) for group, hosts in GROUPS[lab.topology].items()}
    found = Backed(lab, folder, groups)
    found.prepare()
    found.settings |= {"headscale_users": PEOPLE, "headscale_devices": [device(KEPT), device(GONE)]}
    lab.deploy(inventory=found.inventory)
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    """A house on one machine, in a lab of its own."""
    lab = bring_up("single")
    yield backed(lab, tmp_path_factory.mktemp("single"))
    lab.lab("down")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    """A house whose coordinator and gateway are two machines, in a lab of its own."""
    lab = bring_up("split")
    yield backed(lab, tmp_path_factory.mktemp("split"))
    lab.lab("down")


def phone(house: Backed, name: str, coordinator: str, device: bool = False) -> Phone:
    """A person's device that has joined with its page."""
    found, lab = Phone(house.lab, name, device), house.lab
    if found.run("test -x /opt/phone/tailscaled").returncode:
        program = find_program("tailscale", "amd64", "auto")
        assert program is not None
        files = [str(program.directory / each.path) for each in program.files]
        packed = subprocess.run(["tar", "--create", "--transform=s,.*/,,", *files], capture_output=True, check=True)
        into = ["ssh", "-F", str(REPO / ".lab" / lab.name / "ssh_config"), "stranger"]
        subprocess.run([*into, "mkdir -p /opt/phone && tar -C /opt/phone -x"], input=packed.stdout, check=True)
        at = lab.ssh(coordinator, "sed -n 's/ headscale.house.internal//p' /etc/hosts | head -1")
        done = found.run(
            "cat > /usr/local/share/ca-certificates/phone.crt && update-ca-certificates && "
            f"echo {at} headscale.house.internal >> /etc/hosts",
            lab.ssh(coordinator, f"cat {CA}"),
        )
        assert done.returncode == 0, done.stderr
    found.start()
    made = house.playbook("device_add", "--data", f"device={name}")
    assert made.returncode == 0, made.stderr[-3000:]
    page = PAGES / f"{name}.html"
    key = re.search(r"hskey-auth-[\w-]{60,}", html.unescape(page.read_text()))
    page.unlink()
    assert key is not None and found.join(key[0], name)
    return found


def hears(found: Phone) -> bool:
    """Whether a device is connected to the control server within a minute. Of a node that was removed tailscaled goes
    on to say so."""
    shown = f"/opt/phone/tailscale --socket=/run/{found.name}/socket status --json --peers=false"
    loop = f"for i in $(seq 120); do {shown} | grep -q '\"Online\": true' && exit; sleep 0.5; done; exit 1"
    return found.run(loop, seconds=90).returncode == 0


def changed(manifest: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    return {**manifest, key: value}


def newer(manifest: dict[str, Any], program: str) -> dict[str, Any]:
    parts = [{**each, "programs": {**each["programs"], program: "2031.1.1"}} for each in manifest["parts"]]
    return {**manifest, "parts": parts}


#: What is done to the manifest, and the words of the refusal.
FORGED: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda raw: changed(raw, "house", "cottage"), "of another house: cottage (house.internal)"),
    (lambda raw: changed(raw, "domain", "x.internal"), "of another house: house (x.internal)"),
    (lambda raw: changed(raw, "authority", "0" * 64), "is of another backup than the manifest"),
    (lambda raw: changed(raw, "made", "2030-01-01T00:00:00+00:00"), "is of another backup than the manifest"),
    (lambda raw: changed(raw, "format", 2), "is of another version of this project"),
    (lambda raw: newer(raw, "headscale"), "backup: headscale of home is '2031.1.1'"),
    (lambda raw: newer(raw, "openclaw"), "backup: openclaw of home is '2031.1.1'"),
    (lambda raw: changed(raw, "parts", [each for each in raw["parts"] if not each["host"]]), "'none'"),
]


def altered(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])


DAMAGED: list[tuple[Callable[[Path], object], str]] = [
    (lambda file: file.write_bytes(file.read_bytes()[:-1000]), "host-home.age is cut off"),
    (altered, "host-home.age was changed after it was made"),
    (Path.unlink, "host-home.age is missing"),
    (lambda file: file.write_bytes(b""), "host-home.age is cut off: 0 of"),
]


def wrong_ones(house: Backed, backup: Path, folder: Path) -> int:
    """Try wrong backups and wrong uses on a bare host. Returns how many; all of them are refused."""
    for number, (forge, words) in enumerate(FORGED):
        copy = Path(shutil.copytree(backup, folder / f"forged-{number}"))
        raw = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(forge(raw)))
        refused(house.restore(source=copy), words)
    for number, (damage, words) in enumerate(DAMAGED):
        copy = Path(shutil.copytree(backup, folder / f"damaged-{number}"))
        damage(copy / "host-home.age")
        refused(house.restore(source=copy), words)
    other = folder / "other.key"
    subprocess.run(["age-keygen", "--output", str(other)], check=True, capture_output=True)
    uses = (
        (house.restore("--data", f"identity={other}"), "is encrypted for another key"),
        (house.restore("--data", f"identity={folder}/none"), "--data identity is"),
        (house.restore(source=folder / "none"), "--data from is"),
        (house.restore("--data", "role=model_hosts"), "--data role is 'model_hosts'; accepted: coordinator or gateway"),
        (house.restore("--data", "role=gateway"), "no coordinator that is deployed"),
        (house.restore("--limit", "laptop"), "--limit is 'laptop'; accepted: a host that is restored: home"),
    )
    for done, words in uses:
        refused(done, words)
    return len(FORGED) + len(DAMAGED) + len(uses)


def test_phones_and_a_browser_are_back_and_a_removed_phone_is_not(house: Backed) -> None:
    """Its disk is lost after a phone was removed. The browser stays open meanwhile."""
    lab = house.lab
    kept = phone(house, KEPT, "home", device=True)
    phone(house, GONE, "home")
    token = lab.ssh("home", "cat /etc/openclaw/token")
    with browser_in(lab, "laptop", lab.ssh("laptop", f"cat {CA}"), viewport={"width": 1280, "height": 720}) as browser:
        browser.context.set_default_timeout(PATIENCE)
        page = browser.context.new_page()
        page.goto(f"{PAGE}#token={token}")
        expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
        approve(lab, page)
        write(page)
        answer = ask(page)
        before, said = house.nodes("home"), house.events("home")
        house.backup()
        house.settings["headscale_devices"] = [device(KEPT)]
        lab.deploy(inventory=house.inventory)
        assert GONE not in house.nodes("home")

        house.lose("home")
        house.back()
        print({step: f"{seconds:.1f} s" for step, seconds in house.took.items()})

        after = house.nodes("home")
        assert sorted(after) == sorted(name for name in before if name != GONE)
        assert [name for name in after if after[name] != before[name]] == ["home"]
        assert hears(kept)
        assert house.events("home") >= said
        page.goto("about:blank")
        page.goto(PAGE)
        expect(page.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)
        expect(page.locator(ANSWERS).filter(has_text=answer[:20]).first).to_be_visible(timeout=PATIENCE)
    assert house.changes() == set()
    house.verify()


def test_a_restore_is_refused_or_finished_by_the_next_one(house: Backed, tmp_path: Path) -> None:
    """Wrong backups and uses are refused on a bare host. A restore that is cut off at each of its steps, in the middle
    and after it, is finished by the last one."""
    lab = house.lab
    backup = house.backup()
    house.lose("home")
    print(f"refused: {wrong_ones(house, backup, tmp_path)}")
    words = ("--data", f"from={backup}", "--data", f"identity={house.key}")
    cuts = walk(lab, "cut", tmp_path, *words, house.inventory, "playbooks/restore.py")
    assert sum("Restore | State" in each for each in cuts) >= 6, cuts
    assert '"phase": "deploy"' in lab.ssh("home", f"cat {RESTORED}")
    again = house.restore()
    assert again.returncode == 0 and re.search(r"Grand total +3 +- +- +3\b", again.stderr), again.stderr[-3000:]
    lab.deploy(inventory=house.inventory)
    house.message()
    assert lab.ssh("home", f"ls {RESTORED} 2>/dev/null || true") == "" and house.changes() == set()


def test_the_coordinator_comes_back_at_another_address(house: Backed) -> None:
    """Everything but the lost machine has its old state. The phone's router is told the new address, as docs/restore.md
    says."""
    lab = house.lab
    house.message()
    before = house.nodes("home")
    house.backup()
    house.lose("home")
    file = State.of(lab.name).known_hosts
    [key] = [line.split(" ", 1)[1] for line in file.read_text().splitlines() if line.startswith("home,")]
    write_whole(file, f"{file.read_text()}{','.join(places(lab, new=True))} {key}\n")
    address(lab, old=False, new=True)
    house.own["home"] = {"ssh_hostname": places(lab, new=True)[0], "lan_addresses": places(lab, new=True)}
    lab.run("lab/ssh", "stranger", f"sed -i 's/^.* headscale/{places(lab, new=True)[0]} headscale/' /etc/hosts")
    house.back()
    print({step: f"{seconds:.1f} s" for step, seconds in house.took.items()})
    after = house.nodes("home")
    assert [name for name in before if after[name] != before[name]] == ["home"]
    kept = Phone(lab, KEPT, device=True)
    kept.run(f"systemctl restart {KEPT}")
    assert hears(kept)
    assert house.changes() == set()
    house.verify()


def test_coordinator_and_gateway_are_two_machines(apart: Backed) -> None:
    """Both are lost; then the coordinator alone; then the gateway alone."""
    lab = apart.lab
    lab.ssh("gate", "apt-get -qq install --yes sqlite3 >/dev/null")
    apart.message()
    before, said = apart.nodes("hub"), apart.events("gate")
    token = lab.ssh("gate", "sha256sum </etc/openclaw/token")
    apart.backup()
    refused(apart.restore("--data", "role=gateway"), "host gate is 'not empty: /var/lib/openclaw/state")
    refused(apart.restore("--data", "role=coordinator"), "house house is 'alive: its control server (")
    for lost, arguments in (
        (("hub", "gate"), ()),
        (("hub",), ("--data", "role=coordinator")),
        (("gate",), ("--data", "role=gateway")),
    ):
        apart.lose(*lost)
        if lost == ("hub",):
            # The backup has another part as well, for a gateway that is alive.
            refused(apart.restore(), "host gate is 'not empty: /var/lib/openclaw/state")
        apart.back(*arguments)
        print(lost, {step: f"{seconds:.1f} s" for step, seconds in apart.took.items()})
        after = apart.nodes("hub")
        assert sorted(after) == sorted(before)
        assert sorted(name for name in before if after[name] != before[name]) == sorted(lost), lost
        before = after
        if "gate" in lost:
            lab.ssh("gate", "apt-get -qq install --yes sqlite3 >/dev/null")
        assert apart.events("gate") >= said and lab.ssh("gate", "sha256sum </etc/openclaw/token") == token
        assert apart.changes() == set()
        apart.backup()
    apart.verify()
