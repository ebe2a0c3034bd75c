"""Backups that hosts make by themselves: the settings, the program on the host, what is fetched of them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from operations.backup.folder import HALF, chosen, whole
from operations.backup.kept import list_script, parse_list, to_fetch
from plan.backup.manifest import (
    ABOUT,
    FORMAT,
    NEEDED,
    About,
    Manifest,
    Part,
    folder_name,
    missing_parts,
    parse_manifest,
)
from plan.backup.places import KEPT, SERVICE, TIMER
from plan.backup.retention import MONTHS, NEWEST, superfluous
from plan.backup.schedule import INTERVALS, every, folder
from plan.engine.errors import SettingError
from plan.engine.stamp import Deployed, Stamp
from plan.engine.want import Component
from plan.health import backup_here
from plan.house.house import House
from tests.unit import houses
from tests.unit.fakes import deployed
from tests.unit.test_backup import ABOUT_THIS, AGE, NOW

PROGRAM = Path(__file__).parents[2] / "files/backup/private-ai-backup.py"
ON_HOST = runpy.run_path(str(PROGRAM))


def test_hosts_make_backups_as_often_as_the_settings_say() -> None:
    assert every("", []) == "" and every("1 day", [AGE]) == "1 day"
    assert houses.single(backup_recipients=[AGE], backup_every="1 week").backup_every == "1 week"


@pytest.mark.parametrize("wrong", [None, True, 1, "1d", "daily", "2 days", "1 day ", "1 day\n", ["1 day"], {}])
def test_other_words_are_refused(wrong: object) -> None:
    with pytest.raises(SettingError, match=r"backup_every is .*; accepted: '' for never, or one of '6 hours'.*Next: "):
        every(wrong, [AGE])


def test_no_backup_is_made_by_itself_that_nobody_could_read() -> None:
    with pytest.raises(SettingError, match=r"backup_every is '1 day'; accepted: '' as long as backup_recipients is"):
        houses.single(backup_every="1 day")
    # A wrong key is said alone: the list is not empty.
    with pytest.raises(SettingError) as caught:
        houses.single(backup_every="1 day", backup_recipients=["age1"])
    assert len(caught.value.problems) == 1


def test_each_interval_has_its_own_length_and_words() -> None:
    lengths = [each.seconds for each in INTERVALS.values()]
    assert lengths == sorted(set(lengths)) and len({each.calendar for each in INTERVALS.values()}) == len(INTERVALS)


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=lambda each: each.calendar)
def test_systemd_takes_the_words_and_means_that_length(interval: Any) -> None:
    command = ["systemd-analyze", "calendar", "--iterations=3", "--base-time=2026-11-28 20:00:00 UTC"]
    if shutil.which(command[0]) is None:
        pytest.skip("this computer has no systemd")
    said = subprocess.run(
        [*command, interval.calendar], capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"}
    ).stdout
    times = [datetime.fromisoformat(each) for each in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said)]
    assert len(times) == 3, said
    apart = {(second - first).total_seconds() for first, second in pairwise(times)}
    assert all(interval.seconds * 0.9 <= each <= interval.seconds for each in apart), apart


def test_a_folder_may_be_the_houses_own_or_one_of_yours() -> None:
    assert folder("host home", None, False) == (KEPT, False)
    assert folder("host home", "/mnt/backups", True) == ("/mnt/backups", True)
    house = houses.split(backup_recipients=[AGE], backup_folder="/mnt/nas/house")
    assert {member.backup_folder for member in house.members} == {"/mnt/nas/house"}


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "/", "mnt", "/mnt/../etc", "/mnt/", "/mnt//x", "/mnt/a b", "/mnt/$(id)", "/mnt/x\n", "~/backups", 7),
        *("/tmp/x", "/var/tmp/x", "/run/media", "/dev/sda", "/etc/x", "/var/lib/private-ai/x", "/var/lib/openclaw"),
        f"/{'x' * 200}",
    ],
)
def test_another_folder_is_refused(wrong: object) -> None:
    with pytest.raises(SettingError, match=r"host home: backup_folder is .*; accepted: .*Next: "):
        folder("host home", wrong, False)


def test_a_mounted_disk_has_a_folder() -> None:
    with pytest.raises(SettingError, match="backup_folder_mounted is True; accepted: False as long as"):
        folder("host home", None, True)
    with pytest.raises(SettingError, match="backup_folder_mounted is 'yes'; accepted: True"):
        folder("host home", "/mnt/backups", "yes")


# What a deployment wants.


def wants(house: House, host: str) -> Component:
    """The last two wants of a host that concern its own backups, as one."""
    found = [want for want in deployed(house)[host].wants if any(unit.name == TIMER for unit in want.units)]
    assert found
    return found[-1]


def test_a_timer_is_where_there_is_something_to_back_up_and_stopped_elsewhere() -> None:
    house = houses.split(backup_recipients=[AGE], backup_every="1 day")
    for name, own in (("hub", True), ("gate", True), ("brain", False), ("laptop", False)):
        (unit,) = (each for each in wants(house, name).units if each.name == TIMER)
        assert unit.stopped is not own
    for off in (houses.split(backup_recipients=[AGE]), houses.split()):
        (unit,) = (each for each in wants(off, "hub").units if each.name == TIMER)
        assert unit.stopped


def test_what_the_host_is_told_has_no_secret_and_only_its_own_roles() -> None:
    house = houses.split(backup_recipients=[AGE], backup_every="1 day", backup_folder="/mnt/backups")
    want = wants(house, "gate")
    files = {each.path.rpartition("/")[2]: each for each in want.files}
    settings = json.loads(files["backup.json"].content)
    assert settings["roles"] == ["gateway"] and settings["recipients"] == [AGE] and settings["host"] == "gate"
    assert "headscale" not in settings["script"] and "SECRET" not in files["backup.json"].content
    assert "OnCalendar=*-*-* 04:30:00" in files[TIMER].content and "Persistent=yes" in files[TIMER].content
    service = files[SERVICE].content
    assert "-/mnt/backups" in service and "/var/lib/headscale" not in service and "IPAddressDeny=any" in service
    # A folder of somebody else is not made: the disk may not be mounted.
    assert "/mnt/backups" not in {each.path for each in want.directories}


# The program on the host.


def certificate() -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


#: A script that does what the real one does: it reads what the backup is of, and makes an encrypted file.
SCRIPT = """
set -e
cat >{work}/about; printf encrypted >{work}/part.age
echo 'holds 3 {about}'; echo 'holds 9 ca/an odd "name"'; printf 'stamp '; tr -d '\\n' <{stamp}; echo
printf 'part 9 %s\\n' "$(sha256sum <{work}/part.age | cut -d' ' -f1)"
"""


class Home:
    """A made-up host with the settings of its own backups."""

    def __init__(self, root: Path, place: Path | None = None) -> None:
        self.root, self.place, self.note = root, place or root / "backups", root / "kept"
        self.authority = certificate()
        (root / "ca.crt").write_bytes(self.authority)
        deployed = Deployed("0123456789ab", "", {"headscale": "0.29.3"}, "home")
        (root / "deployed.json").write_text(Stamp(deployed, NOW).text)
        self.place.mkdir(exist_ok=True)
        self.settings: dict[str, Any] = {
            "about": {"format": FORMAT, "house": "house", "domain": "house.internal"},
            **{"host": "home", "roles": ["coordinator"], "recipients": [AGE], "folder": str(self.place)},
            **{"mounted": False, "newest": NEWEST, "months": MONTHS, "authority": str(root / "ca.crt")},
            **{"stamp": str(root / "deployed.json"), "state": str(root), "encrypted": str(root / "part.age")},
            **{"note": str(self.note), "script": self.script()},
        }

    def script(self) -> str:
        return SCRIPT.format(work=self.root, about=ABOUT, stamp=self.root / "deployed.json")

    def make(self, **other: Any) -> subprocess.CompletedProcess[str]:
        file = self.root / "backup.json"
        file.write_text(json.dumps(self.settings | other))
        return subprocess.run([sys.executable, str(PROGRAM), str(file)], capture_output=True, text=True, check=False)

    @property
    def own(self) -> Path:
        return self.place / "on-home"

    def kept(self) -> list[str]:
        return sorted(each.name for each in self.own.iterdir())

    def older(self, at: datetime, authority: str = "") -> Path:
        """A backup of another time."""
        (newest, *_) = (each for each in whole(self.own) if not authority)
        about = replace(newest.manifest.about, made=at)
        made = self.own / folder_name(about)
        made.mkdir()
        (made / "manifest.json").write_text(replace(newest.manifest, about=about).text)
        return made


def test_a_host_makes_a_backup_of_itself_that_the_controller_reads(tmp_path: Path) -> None:
    home = Home(tmp_path)
    done = home.make()
    assert done.returncode == 0, done.stderr
    (name,) = home.kept()
    backup = home.own / name
    manifest = parse_manifest((backup / "manifest.json").read_text())
    certificate = x509.load_pem_x509_certificate(home.authority)
    assert manifest.about.authority == certificate.fingerprint(hashes.SHA256()).hex()
    assert (manifest.alone, manifest.about.revision, manifest.recipients) == ("home", "0123456789ab", (AGE,))
    (part,) = manifest.parts
    assert (part.file, part.size, part.sha256) == ("host-home.age", 9, hashlib.sha256(b"encrypted").hexdigest())
    assert part.holds == {ABOUT: 3, 'ca/an odd "name"': 9} and part.programs == {"headscale": "0.29.3"}
    assert (backup / part.file).read_bytes() == b"encrypted" and folder_name(manifest.about) == name
    assert all(each.stat().st_mode & 0o077 == 0 for each in (home.own, backup, *backup.iterdir()))
    # Inside it says the same of itself.
    inside = json.loads((tmp_path / "about").read_text())
    assert inside == json.loads(manifest.about.text("home", ("coordinator",)))
    assert not (tmp_path / "part.age").exists() and abs(int(home.note.read_text()) - datetime.now().timestamp()) < 60
    # It is chosen and tried like others, and lacks nothing but what this host does not have.
    assert chosen(str(home.own), "house", "house.internal").folder == backup
    assert missing_parts(manifest) == [f"host-home.age lacks {path}" for path in NEEDED["coordinator"]]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo the database is damaged >&2; exit 1", "the database is damaged"),
        ("echo 'holds 3 about.json'", "cut short"),
        ("{good}; printf other >{work}/part.age", "is not what was made"),
        ("{good}; rm {work}/part.age", "No such file"),
    ],
)
def test_a_backup_that_fails_counts_for_nothing_and_the_next_one_cleans_up(
    tmp_path: Path, script: str, words: str
) -> None:
    home = Home(tmp_path)
    done = home.make(script=script.format(good=home.script().strip(), work=tmp_path))
    assert done.returncode == 1 and "no backup: " in done.stderr and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not home.note.exists()
    assert all(name.startswith(HALF) for name in home.kept())
    assert home.make().returncode == 0
    assert len(home.kept()) == 1 and not home.kept()[0].startswith(HALF)


def test_a_folder_that_is_not_there_or_not_mounted_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    gone = home.make(folder=str(tmp_path / "none"))
    assert gone.returncode == 1 and "is not there. Next: mount the disk" in gone.stderr
    assert not (tmp_path / "none").exists(), "nothing is made in the place of a disk"
    same = home.make(mounted=True)
    assert same.returncode == 1 and "no other disk is mounted at" in same.stderr and home.place.is_dir()
    (home.place / "on-home").symlink_to(tmp_path)
    linked = home.make()
    assert linked.returncode == 1 and "is a link" in linked.stderr


def test_a_mounted_disk_is_taken(tmp_path: Path) -> None:
    disk = Path("/dev/shm")
    if not disk.is_dir() or disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this computer has no second file system that everybody may write to")
    with tempfile.TemporaryDirectory(dir=disk) as place:
        home = Home(tmp_path, Path(place))
        done = home.make(mounted=True)
        assert done.returncode == 0, done.stderr
        assert len(home.kept()) == 1


def next_second() -> None:
    """Names of backups have seconds."""
    begun = int(time.time())
    while int(time.time()) == begun:
        pass


def test_old_ones_make_room_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.make().returncode == 0
    first = home.kept()[0]
    base = datetime.now(UTC).replace(microsecond=0)
    older = [home.older(base - timedelta(minutes=minutes)).name for minutes in range(1, NEWEST + 3)]
    # Of a house of the same name that had another authority, and of somebody else.
    other = home.older(base - timedelta(minutes=90))
    text = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(text | {"authority": "c" * 64}))
    (home.own / "notes").mkdir()
    (home.own / "house-20200101T000000Z").symlink_to(tmp_path)
    next_second()
    done = home.make()
    assert done.returncode == 0, done.stderr
    kept = home.kept()
    assert {other.name, "notes", "house-20200101T000000Z", first} <= set(kept)
    # All that were there and the new one, but for the oldest. One more is kept where a month began meanwhile.
    gone = [name for name in older if name not in kept]
    assert gone and set(gone) <= set(sorted(older)[:4]), done.stdout
    assert not [name for name in kept if name.startswith(HALF)]


def test_the_one_that_was_just_made_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.make().returncode == 0
    later = [home.older(datetime.now(UTC) + timedelta(days=day)).name for day in range(1, 400, 15)]
    before = set(home.kept())
    (newest,) = before - set(later)
    assert newest < min(later)
    next_second()
    assert home.make().returncode == 0
    made = set(home.kept()) - before
    assert len(made) == 1 and len(home.kept()) < len(before), "a clock that was set back makes it the oldest of all"


def test_the_host_keeps_what_the_controller_would_keep() -> None:
    rand = random.Random(1)
    for _ in range(300):
        times = [NOW - timedelta(minutes=rand.randrange(900_000)) for _ in range(rand.randrange(60))]
        names = [f"{each:%Y%m%dT%H%M%SZ}" for each in times]
        gone = [f"{each:%Y%m%dT%H%M%SZ}" for each in superfluous(times)]
        assert ON_HOST["superfluous"](names, NEWEST, MONTHS) == gone


# What the controller fetches.


def alone(at: datetime, host: str = "home", about: About = ABOUT_THIS) -> Manifest:
    part = Part(host, ("gateway",), f"host-{host}.age", 9, "b" * 64, {}, {})
    return Manifest(replace(about, made=at), (AGE,), (part,), host)


def test_what_a_host_keeps_is_listed_and_what_is_none_is_left(tmp_path: Path) -> None:
    own = tmp_path / "on-home"
    own.mkdir()
    good = [alone(NOW - timedelta(days=day)) for day in range(3)]
    cottage = alone(NOW - timedelta(days=9), about=replace(ABOUT_THIS, authority="c" * 64))
    hub = alone(NOW - timedelta(days=10), "hub")
    for each in (*good, cottage, hub):
        (own / folder_name(each.about)).mkdir()
        (own / folder_name(each.about) / "manifest.json").write_text(each.text)
    (own / "house-odd").mkdir()
    (own / "house-odd" / "manifest.json").write_text(good[0].text)
    (own / "house-torn").mkdir()
    (own / "house-torn" / "manifest.json").write_text("{")
    (own / "house-link").symlink_to(own / folder_name(good[0].about))
    said = subprocess.run(
        ["sh", "-c", list_script(str(tmp_path), "home", "house")], capture_output=True, text=True, check=True
    ).stdout
    assert parse_list(said, "home", ABOUT_THIS) == good[::-1]
    nothing = subprocess.run(
        ["sh", "-c", list_script(str(tmp_path / "none"), "home", "house")], capture_output=True, text=True, check=True
    ).stdout
    assert parse_list(nothing, "home", ABOUT_THIS) == []
    with pytest.raises(ValueError, match="cut short"):
        parse_list(said.rpartition("end")[0], "home", ABOUT_THIS)


def test_what_is_here_or_would_be_removed_is_not_fetched() -> None:
    there = [alone(NOW - timedelta(days=day)) for day in range(5)]
    assert to_fetch(there, []) == there[::-1]
    assert to_fetch(there, [NOW, NOW - timedelta(days=4)]) == there[3:0:-1]
    # Ten newer ones of the same month are here.
    newer = [NOW + timedelta(minutes=minute) for minute in range(NEWEST)]
    assert to_fetch([alone(NOW)], newer) == []


def test_this_computer_knows_how_old_its_newest_backup_is() -> None:
    assert backup_here(None, NOW)[1] and "Next: make backup" in backup_here(None, NOW)[0]
    said, warns = backup_here(NOW - timedelta(days=3), NOW)
    assert "was made 3 d ago" in said and not warns
    said, warns = backup_here(NOW - timedelta(days=31), NOW)
    assert "31 d ago. Next: make backup" in said and warns
    assert backup_here(NOW + timedelta(days=1), NOW)[1]
