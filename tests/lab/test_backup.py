"""A backup of a deployed house: made while it answers, tried, damaged in every way; and runs that are cut off.

The house is that of test_house.py with a key for backups, which is taken away again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plan.backup.places import ARCHIVES, DONE, SERVICE, TIMER, WORK
from plan.backup.retention import NEWEST
from plan.backup.schedule import ON
from tests.lab.conftest import TestLab
from tests.lab.inventories import GROUPS, write_inventory

#: Where the host keeps the backups that it makes by itself: a disk that is mounted in one test.
DISK = "/mnt/backups"


@dataclass(frozen=True)
class House:
    """A deployed house with a key for backups, and a folder for them."""

    lab: TestLab
    inventory: str
    key: Path
    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)

    def playbook(self, name: str, *data: str) -> subprocess.CompletedProcess[str]:
        words = [word for each in data for word in ("--data", each)]
        return self.lab.run(".venv/bin/pyinfra", "-y", *words, self.inventory, f"playbooks/{name}.py")

    def backup(self, *data: str) -> subprocess.CompletedProcess[str]:
        return self.playbook("backup", f"to={self.folder}", *data)

    def check(self, folder: Path | None = None, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.playbook("backup_check", f"from={folder or self.folder}", f"identity={key or self.key}")

    def made(self) -> list[Path]:
        """The whole backups, oldest first."""
        return sorted(each for each in self.folder.iterdir() if not each.name.startswith((".", ON)))

    def left_on_the_host(self) -> str:
        return self.lab.ssh("home", f"find {WORK} {ARCHIVES} -mindepth 1")

    def journal(self) -> str:
        """The last lines of what the host's own backups say."""
        return self.lab.ssh("home", f"journalctl --quiet --output=cat --lines=20 --unit={SERVICE}")

    def verified(self, reports: Path) -> tuple[int, str]:
        """The exit status of the check of kept backups, and what it has observed."""
        words = ("--inventory", self.inventory, "--reports", str(reports), "-k", "test_kept")
        done = self.lab.run(sys.executable, "-m", "pytest", "tests/verify", *words)
        (check,) = json.loads((reports / "verification.json").read_text())["checks"]
        assert check["id"] == "backup.kept[home]"
        return done.returncode, check["observed"]


@pytest.fixture(scope="module")
def house(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.mktemp("house")
    (base / "backups").mkdir()
    key = base / "keys" / "private.key"
    key.parent.mkdir()
    inventory = write_inventory(base, GROUPS["single"], {})
    none = House(single, inventory, key, base / "backups")
    single.deploy()
    refused = none.backup()
    assert refused.returncode == 1 and "backup_recipients is []; accepted: at least one of" in refused.stderr
    assert "No backups are made: backup_recipients is not set" in none.playbook("status").stderr
    done = none.playbook("backup_key", f"identity={key}")
    assert done.returncode == 0, done.stderr
    assert key.stat().st_mode & 0o777 == 0o600 and "AGE-SECRET-KEY" not in done.stdout + done.stderr
    again, content = none.playbook("backup_key", f"identity={key}"), key.read_text()
    assert again.returncode == 1 and "none is overwritten" in again.stderr and key.read_text() == content
    (line,) = [each for each in done.stdout.splitlines() if "backup_recipients = " in each]
    settings = {
        "backup_recipients": json.loads(line.partition(" = ")[2]),
        **{"backup_every": "1 month", "backup_folder": DISK, "backup_folder_mounted": True},
    }
    found = House(single, write_inventory(base, GROUPS["single"], settings), key, base / "backups", settings)
    single.deploy(inventory=found.inventory)
    yield found
    single.deploy()


def test_a_house_is_backed_up_while_it_runs_and_the_backup_is_good(house: House) -> None:
    assert "backup was never made" in house.playbook("status").stdout.replace("\n", " ")
    started = house.lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale; podman --version")
    dry = house.lab.run(
        ".venv/bin/pyinfra", "--dry", "-y", "--data", f"to={house.folder}", house.inventory, "playbooks/backup.py"
    )
    assert dry.returncode == 0 and house.made() == [] and list(house.folder.iterdir()) == []
    begun = time.monotonic()
    done = house.backup()
    print(done.stderr, f"{time.monotonic() - begun:.1f} s")
    assert done.returncode == 0, done.stderr[-4000:]
    (backup,) = house.made()
    assert backup.stat().st_mode & 0o777 == 0o700
    assert {each.name for each in backup.iterdir()} == {"manifest.json", "host-home.age", "controller.age"}
    assert all((backup / name).stat().st_mode & 0o077 == 0 for name in ("host-home.age", "controller.age"))
    # Nothing was stopped for it, and nothing of it is left.
    assert house.lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale; podman --version") == started
    assert house.left_on_the_host() == ""
    assert house.lab.ssh("home", f"stat -c '%U %a' {WORK} {ARCHIVES} {DONE}").split("\n") == [
        "root 700",
        "openclaw 700",
        "root 644",
    ]
    manifest = json.loads((backup / "manifest.json").read_text())
    for secret in (
        house.lab.ssh("home", "cat /etc/openclaw/token"),
        house.lab.ssh("home", "cat /var/lib/private-ai/ca/ca.key"),
    ):
        for text in (json.dumps(manifest), done.stdout, done.stderr):
            assert secret.splitlines()[-1] not in text and secret.splitlines()[0] not in text
    fingerprint = house.lab.ssh("home", "openssl x509 -in /var/lib/private-ai/ca/ca.crt -noout -fingerprint -sha256")
    assert fingerprint.partition("=")[2].replace(":", "").lower() == manifest["authority"]

    good = house.check()
    assert good.returncode == 0, good.stdout + good.stderr
    nodes = len(json.loads(house.lab.ssh("home", "headscale nodes list -o json")))
    assert f"Headscale's database is whole and knows {nodes} nodes" in good.stdout
    assert "WRONG" not in good.stdout and manifest["authority"] in good.stdout
    assert "0 days old" in house.playbook("status").stdout
    assert house.lab.deploy(inventory=house.inventory)["totals"]["success"] == 0


def test_what_is_in_it_is_what_the_house_has(house: House, tmp_path: Path) -> None:
    (backup,) = house.made()
    for name in ("host-home", "controller"):
        command = ["age", "--decrypt", "--identity", str(house.key), "--output", str(tmp_path / f"{name}.tar")]
        subprocess.run([*command, str(backup / f"{name}.age")], check=True)
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            tar.extractall(tmp_path / name, filter="data")
    home = tmp_path / "host-home"
    for path, on_host in (
        ("openclaw/token", "/etc/openclaw/token"),
        ("ca/ca.key", "/var/lib/private-ai/ca/ca.key"),
        ("headscale/noise_private.key", "/var/lib/headscale/noise_private.key"),
    ):
        assert (home / path).read_text().strip() == house.lab.ssh("home", f"cat {on_host}"), path
    with sqlite3.connect(home / "headscale/db.sqlite") as database:
        keys = [key for (key,) in database.execute("SELECT node_key FROM nodes ORDER BY id")]
    nodes = json.loads(house.lab.ssh("home", "headscale nodes list -o json"))
    assert keys and sorted(keys) == sorted(each["node_key"] for each in nodes)
    assert (tmp_path / "controller/inventory/inventory.py").read_text() == Path(house.inventory).read_text()
    assert (tmp_path / "controller/group_data/all.py").read_text() == Path("group_data/all.py").read_text()


def test_damaged_and_wrong_backups_are_told_apart(house: House, tmp_path: Path) -> None:
    (backup,) = house.made()

    def copy(name: str) -> Path:
        return Path(shutil.copytree(backup, tmp_path / name))

    def altered(data: bytes) -> bytes:
        return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]

    cases: list[tuple[Path, str]] = []
    part = (changed := copy("changed")) / "host-home.age"
    part.write_bytes(altered(part.read_bytes()))
    cases.append((changed, "WRONG  host-home.age was changed after it was made"))
    # Also where the manifest was made to say so, by somebody without the key: age itself notices.
    forged = copy("forged")
    data = altered((forged / "host-home.age").read_bytes())
    (forged / "host-home.age").write_bytes(data)
    manifest = json.loads((forged / "manifest.json").read_text())
    for each in manifest["parts"]:
        if each["file"] == "host-home.age":
            each["sha256"] = hashlib.sha256(data).hexdigest()
    (forged / "manifest.json").write_text(json.dumps(manifest))
    cases.append((forged, "WRONG  host-home.age cannot be decrypted"))
    part = (cut := copy("cut")) / "host-home.age"
    part.write_bytes(part.read_bytes()[:-1000])
    cases.append((cut, "WRONG  host-home.age is cut off"))
    (missing := copy("missing")).joinpath("controller.age").unlink()
    cases.append((missing, "WRONG  controller.age is missing"))
    less = copy("less")
    manifest = json.loads((less / "manifest.json").read_text())
    manifest["parts"] = [each for each in manifest["parts"] if each["host"]]
    (less / "manifest.json").write_text(json.dumps(manifest))
    cases.append((less, "WRONG  there is no part of a controller"))
    later = copy("later")
    manifest = json.loads((later / "manifest.json").read_text())
    manifest["made"] = "2030-01-01T00:00:00+00:00"
    (later / "manifest.json").write_text(json.dumps(manifest))
    cases.append((later, "WRONG  host-home.age is of another backup than the manifest beside it"))
    for folder, words in cases:
        told = house.check(folder)
        assert told.returncode == 1 and words in told.stdout, (folder.name, told.stdout, told.stderr)
        assert "Not good" in told.stdout
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "--output", str(other)], check=True, capture_output=True)
    told = house.check(key=other)
    assert told.returncode == 1 and "is encrypted for another key" in told.stdout
    (empty := tmp_path / "empty").mkdir()
    cottage = copy("cottage")
    (cottage / "manifest.json").write_text(
        (backup / "manifest.json").read_text().replace('"house.internal"', '"x.internal"')
    )
    (half := copy("half")).joinpath("manifest.json").unlink()
    half = half.rename(half.with_name(f".half-{half.name}"))
    for given, words in (
        (empty, "no backup"),
        (tmp_path / "nowhere", "--data from is"),
        (cottage, "of another house: house (x.internal)"),
        (half, "not a whole backup"),
    ):
        told = house.check(given)
        assert told.returncode == 1 and words in told.stderr, (given, told.stdout, told.stderr)
    told = house.check(key=tmp_path / "no.key")
    assert told.returncode == 1 and "--data identity is" in told.stderr
    assert not [each for each in Path("/dev/shm").iterdir() if each.name.startswith("private-ai-backup-")]


def test_wrong_use_is_refused_before_anything_is_done(house: House, tmp_path: Path) -> None:
    before = [each.name for each in house.made()]
    for words, told in (
        (("--data", f"to={tmp_path}/none"), "--data to is"),
        (("--data", f"to={house.key}"), "--data to is"),
        (("--data", f"to={house.folder}", "--limit", "home"), "--limit is 'home'; accepted: no limit"),
    ):
        done = house.lab.run(".venv/bin/pyinfra", "-y", *words, house.inventory, "playbooks/backup.py")
        assert done.returncode == 1 and told in done.stderr and "nothing was changed" in done.stderr, done.stderr[
            -2000:
        ]
    assert [each.name for each in house.made()] == before and house.left_on_the_host() == ""


#: An `age` that says its number and waits. So the run stops after it has fetched the parts of the hosts, where it
#: encrypts its own.
WAITING = "#!/bin/sh\necho $$ > {told}.part && mv {told}.part {told} && exec sleep 600\n"


@pytest.mark.parametrize("stage", ["plain", "fetched"])
def test_a_backup_that_is_cut_off_counts_for_nothing_and_the_next_one_cleans_up(
    house: House, stage: str, tmp_path: Path
) -> None:
    before = house.made()
    told, environment = tmp_path / "told", dict(house.lab.env)
    if stage == "fetched":
        (waiting := tmp_path / "age").write_text(WAITING.format(told=told))
        waiting.chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    command = [".venv/bin/pyinfra", "-y", "--data", f"to={house.folder}", house.inventory, "playbooks/backup.py"]
    running = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def reached() -> bool:
        if stage == "plain":
            return house.lab.ssh("home", f"ls {WORK}/plain/files/headscale 2>/dev/null || true") != ""
        return told.exists()

    while not reached():
        assert running.poll() is None, "the backup ended before it could be cut off"
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    if stage == "fetched":
        os.kill(int(told.read_text()), signal.SIGKILL)
    assert house.made() == before
    assert [each.name[:6] for each in house.folder.iterdir() if each not in before] == [".half-"]
    # The host ends its script by itself: what is not encrypted is gone then.
    while house.lab.ssh("home", f"ls -d {WORK}/plain 2>/dev/null || true"):
        pass
    assert set(house.left_on_the_host().split()) <= {f"{WORK}/part.age"}
    done = house.backup()
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(house.folder.glob(".*")) and len(house.made()) == len(before) + 1
    assert house.left_on_the_host() == ""
    assert house.check().returncode == 0


def test_a_host_that_lost_its_power_meanwhile_is_cleaned_by_a_deployment(house: House) -> None:
    house.lab.ssh("home", f"mkdir -p {WORK}/plain/files && echo secret > {WORK}/plain/files/token")
    house.lab.deploy(inventory=house.inventory)
    assert house.left_on_the_host() == ""
    assert house.lab.deploy(inventory=house.inventory)["totals"]["success"] == 0


def test_old_backups_make_room_and_the_newest_stays(house: House) -> None:
    oldest, newest = house.made()[0], house.made()[-1]
    text = (newest / "manifest.json").read_text()
    made = datetime.fromisoformat(json.loads((oldest / "manifest.json").read_text())["made"])
    for minutes in range(1, NEWEST + 3):
        # Older than all that were made, so that no two have one name.
        at = made - timedelta(minutes=minutes)
        older = shutil.copytree(newest, house.folder / f"house-{at:%Y%m%dT%H%M%SZ}")
        raw = json.loads(text)
        raw["made"] = at.astimezone(UTC).isoformat()
        (older / "manifest.json").write_text(json.dumps(raw))
    done = house.backup()
    assert done.returncode == 0, done.stderr[-4000:]
    kept = house.made()
    # One more where a month began meanwhile: the newest of each month is kept.
    assert (
        NEWEST <= len(kept) <= NEWEST + 1
        and newest in kept
        and done.stderr.count("removed, since newer ones are there") > 1
    )
    assert house.check().returncode == 0


def test_a_host_makes_its_own_backups_without_a_person(house: House, tmp_path: Path) -> None:
    lab = house.lab
    assert lab.ssh("home", f"systemctl is-enabled {TIMER}; systemctl is-active {TIMER}") == "enabled\nactive"
    assert lab.ssh("laptop", f"systemctl cat {TIMER}", check=False) == ""
    started = lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale")
    # Not on the system's disk while the other one is not mounted.
    for make, words in (("", "is not there. Next: mount"), (f"mkdir {DISK}; ", "no other disk is mounted")):
        failed = lab.ssh("home", f"{make}systemctl start {SERVICE} 2>&1; systemctl stop {SERVICE}", check=False)
        assert "failed" in failed and words in house.journal()
    assert "own backup was not made at the last try" in lab.ssh(
        "home", "systemctl start private-ai-health; cat /var/lib/private-ai/health/state.txt"
    )
    assert house.left_on_the_host() == "" and lab.ssh("home", f"ls -A {DISK}") == ""
    lab.ssh("home", f"mount -t tmpfs -o mode=0755 tmpfs {DISK}; systemctl reset-failed {SERVICE}")
    begun = time.monotonic()
    lab.ssh("home", f"systemctl start {SERVICE}")
    print(f"{time.monotonic() - begun:.1f} s")
    name = lab.ssh("home", f"ls -A {DISK}/{ON}home")
    shown = lab.ssh("home", f"cd {DISK}/{ON}home; stat -c '%n %U %a' . {name} {name}/*; head -n 1 {name}/host-home.age")
    assert shown.splitlines() == [
        ". root 700",
        f"{name} root 700",
        f"{name}/host-home.age root 600",
        f"{name}/manifest.json root 600",
        "age-encryption.org/v1",
    ]
    assert house.left_on_the_host() == ""
    assert lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale") == started
    assert name in house.journal() and lab.ssh("home", "cat /etc/openclaw/token") not in house.journal()
    # Nothing differs from what was deployed, and all is well.
    assert lab.deploy(inventory=house.inventory)["totals"]["success"] == 0
    said = house.playbook("status")
    assert "own: 0 days old" in said.stdout
    # Those of this test lie in another folder.
    assert "in the folder backups of this computer" in " ".join((said.stdout + said.stderr).split())
    status, observed = house.verified(tmp_path)
    assert status == 0 and f"{name} is whole" in observed

    # Fetched, and as good as others.
    done = house.backup()
    assert done.returncode == 0, done.stderr[-4000:]
    fetched = house.folder / f"{ON}home" / name
    good = house.check(fetched)
    assert good.returncode == 0 and "Headscale's database is whole" in good.stdout, good.stdout + good.stderr

    # What is not encrypted is noticed.
    lab.ssh("home", f"echo plain >{DISK}/{ON}home/{name}/host-home.age")
    status, observed = house.verified(tmp_path)
    assert status == 1 and "is not encrypted with age" in observed


def test_no_timer_is_left_when_hosts_make_none_any_more(house: House, tmp_path: Path) -> None:
    lab, settings = house.lab, {"backup_recipients": house.settings["backup_recipients"]}
    lab.deploy(inventory=write_inventory(tmp_path, GROUPS["single"], settings))
    shown = lab.ssh("home", f"systemctl is-enabled {TIMER}; systemctl is-active {TIMER}", check=False)
    assert shown == "disabled\ninactive"
    assert lab.ssh("home", f"ls -A {DISK}/{ON}home").startswith("house-"), "what was made stays"
    lab.ssh("home", f"umount {DISK}; rmdir {DISK}")
