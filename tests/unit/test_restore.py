"""A restore: what goes where, what is refused, and what a host's script does with the files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pyinfra.api import State

from operations.backup import check, ended
from operations.backup.alive import answering, ask_script, key_of
from operations.backup.check import BadPart
from operations.backup.opened import PAYLOAD, _gateway, endpoints
from operations.backup.put_back import place_script
from operations.engine.run_on_host import RemoteError
from operations.health import look_script
from plan.backup.manifest import CONTROLLER, About, Manifest, Part, file_of
from plan.backup.restoring import (
    ROLES,
    Piece,
    Restored,
    asked_roles,
    cut_off,
    fits,
    parse_restored,
    set_aside,
    stands,
    targets,
    unfit,
)
from plan.ca import begins_anew
from plan.engine.errors import SettingError
from plan.house.house import House
from tests.unit import houses
from tests.unit.fakes import PROFILE

NOW = datetime(2026, 11, 28, 21, 20, tzinfo=UTC)
ABOUT = About("house", "house.internal", NOW, "a" * 64, "0123456789ab+")
PINNED = {"headscale": "0.29.3", "openclaw": "2026.9.6"}
NOTE = Restored("deploy", "house", NOW, "a" * 64, ROLES)


def part(host: str, *roles: str, programs: Mapping[str, str] = PINNED) -> Part:
    return Part(host, roles, file_of(host), 1, "b" * 64, {}, programs)


def manifest(*parts: Part) -> Manifest:
    return Manifest(ABOUT, (), (*parts, part("", CONTROLLER)))


SINGLE = manifest(part("home", *ROLES))
SPLIT = manifest(part("hub", "coordinator"), part("gate", "gateway"))
PAIR = manifest(part("home", *ROLES), part("gate", "gateway"))


def placed(of: Manifest, house: House, roles: tuple[str, ...] = ROLES) -> dict[str, list[tuple[str, ...]]]:
    found = targets(of, house, roles)
    return {host: [(each.part.host, *each.roles) for each in pieces] for host, pieces in found.pieces.items()}


def test_each_part_goes_to_the_host_of_its_role() -> None:
    assert placed(SINGLE, houses.single()) == {"home": [("home", "coordinator", "gateway")]}
    assert placed(SPLIT, houses.split()) == {"hub": [("hub", "coordinator")], "gate": [("gate", "gateway")]}
    assert placed(PAIR, houses.pair()) == {"home": [("home", *ROLES)], "gate": [("gate", "gateway")]}


def test_one_role_alone_is_restored() -> None:
    assert placed(SINGLE, houses.single(), ("gateway",)) == {"home": [("home", "gateway")]}
    assert placed(SPLIT, houses.split(), ("coordinator",)) == {"hub": [("hub", "coordinator")]}
    assert asked_roles({}) == ROLES and asked_roles({"role": "gateway"}) == ("gateway",)


@pytest.mark.parametrize("role", ["", "model_hosts", "Gateway", "gatewy", "clients"])
def test_another_role_is_refused(role: str) -> None:
    with pytest.raises(SettingError, match=r"--data role is .*; accepted: coordinator or gateway"):
        asked_roles({"role": role})


def test_a_coordinator_may_have_another_name_and_roles_may_be_on_other_hosts() -> None:
    """The house was on one host, and is now on three: browsers know the gateway by its name, and are told so."""
    found = targets(SINGLE, houses.split(), ROLES)
    assert {host: [each.roles for each in pieces] for host, pieces in found.pieces.items()} == {
        "hub": [("coordinator",)],
        "gate": [("gateway",)],
    }
    assert "hub gets what home was as coordinator" in found.told
    assert "browsers know the gateway as home: each has to be approved again" in found.told
    both = targets(SPLIT, houses.single(), ROLES)
    assert [(each.part.host, each.roles) for each in both.pieces["home"]] == [
        ("hub", ("coordinator",)),
        ("gate", ("gateway",)),
    ]
    assert both.roles("home") == ROLES


def test_what_is_not_restored_is_said() -> None:
    more = targets(SINGLE, houses.pair(), ROLES)
    assert "gate is a gateway that the backup does not have; it begins anew" in more.told
    fewer = targets(PAIR, houses.single(), ROLES)
    assert "of gate nothing is restored: the inventory has no gateway of this name" in fewer.told


def test_parts_for_no_host_of_the_inventory_are_refused() -> None:
    with pytest.raises(SettingError, match="a part of gate or home"):
        targets(manifest(part("hub", "coordinator"), part("a", "gateway"), part("b", "gateway")), houses.pair(), ROLES)
    with pytest.raises(SettingError, match="parts of a gateway is 'none'"):
        targets(manifest(part("hub", "coordinator")), houses.split(), ROLES)


@pytest.mark.parametrize(
    ("program", "had", "good"),
    [
        ("headscale", "0.29.3", True),
        ("headscale", "0.29.9", True),
        ("headscale", "v0.29.0", True),
        ("headscale", "0.28.0", True),
        ("headscale", "0.27.1", False),
        ("headscale", "0.30.0", False),
        ("headscale", "1.29.3", False),
        ("headscale", "", False),
        ("headscale", "0.29.3-beta.1", False),
        ("openclaw", "2026.9.6", True),
        ("openclaw", "2026.9.4", True),
        ("openclaw", "2025.12.9", True),
        ("openclaw", "2026.9.7", False),
        ("openclaw", "2026.10.1", False),
        ("openclaw", "", False),
    ],
)
def test_versions_that_the_programs_of_today_do_not_take_are_refused(program: str, had: str, good: bool) -> None:
    assert fits(program, had, PINNED[program]) == good
    piece = Piece(part("home", *ROLES, programs={**PINNED, program: had}), ROLES)
    problems = unfit(SINGLE, [piece], PINNED)
    assert bool(problems) != good
    for each in problems:
        assert each.setting == f"backup: {program} of home" and "git checkout 0123456789ab" in each.next_step
        assert "+" not in each.next_step


def test_a_version_of_a_role_that_is_not_restored_does_not_matter() -> None:
    assert not unfit(SINGLE, [Piece(part("home", programs={"openclaw": "2026.9.6"}), ("gateway",))], PINNED)


def test_the_note_is_read_as_it_was_written() -> None:
    assert parse_restored(NOTE.text) == NOTE
    assert parse_restored("") is None and parse_restored("\n") is None
    # Whatever else stands there: half of a note is a restore that was cut off.
    for text in ("x", "{}", '{"phase": "deploy"}', NOTE.text[:-20], "[]", "null"):
        found = parse_restored(text)
        assert found is not None and found.phase == "files", text


FILES = replace(NOTE, phase="files")
THERE = ("/var/lib/headscale", "/var/lib/private-ai/ca")


def test_a_host_that_is_not_empty_is_refused_with_commands_that_delete_nothing() -> None:
    found = stands("home", None, (*THERE, "headscale.service runs"), NOTE)
    assert found is not None and "not empty: /var/lib/headscale, /var/lib/private-ai/ca" in str(found)
    assert "systemctl disable --now headscale; mv /var/lib/headscale /var/lib/headscale.before; mv " in str(found)
    assert "rm " not in set_aside(THERE)
    assert stands("home", None, (), NOTE) is None


def test_a_restore_that_was_cut_off_goes_on_and_one_without_a_deployment_may_be_made_again() -> None:
    for before in (FILES, NOTE, replace(NOTE, made=NOW.replace(year=2025))):
        assert stands("home", before, THERE, NOTE) is None
    # A deployment has started something of it.
    assert stands("home", NOTE, (*THERE, "headscale.service runs"), NOTE)
    other = stands("home", replace(FILES, authority="c" * 64, house="cottage"), (), NOTE)
    assert other is not None and "restored for another house (cottage)" in str(other)
    # Of a note that cannot be read nothing is known but that a restore was cut off.
    assert stands("home", parse_restored("x"), THERE, NOTE) is None


def test_a_deployment_of_half_a_restore_is_refused() -> None:
    found = cut_off("home", FILES, "pyinfra house.py playbooks/restore.py")
    assert found is not None and "Next: pyinfra house.py playbooks/restore.py, with the same --data" in str(found)
    assert cut_off("home", None, "") is None and cut_off("home", NOTE, "") is None


def test_a_restore_does_not_end_while_browsers_cannot_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def silent(*_: object) -> str:
        raise RemoteError("home: no container")

    monkeypatch.setattr(ended, "end_at_gateway", silent)
    host: Any = SimpleNamespace(print_prefix="[home] ", log=print)
    assert not ended._forget_browsers(State(), host, houses.single(), host)
    assert "browsers that may be back could not be checked: home: no container. Next" in caplog.text


def test_the_addresses_of_a_node_are_read_from_the_database(tmp_path: Path) -> None:
    file = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE nodes (given_name TEXT, endpoints TEXT)")
        ends = ["10.77.0.11:41641", "[fd4c:4142:77::11]:41641", "127.0.0.1:1", "10.77.0.11:5", "$(reboot):1"]
        rows = [("home", json.dumps(ends)), ("laptop", '["10.77.0.20:1"]')]
        database.executemany("INSERT INTO nodes VALUES (?, ?)", rows)
        database.commit()
    assert endpoints(file, "home") == ("10.77.0.11", "fd4c:4142:77::11")
    assert endpoints(file, "hub") == ()
    for statement in ("UPDATE nodes SET endpoints = 'x'", "UPDATE nodes SET endpoints = NULL", "DROP TABLE nodes"):
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement)
            database.commit()
        assert endpoints(file, "home") == ()


def archive(folder: Path, *entries: tuple[str, bytes, bytes]) -> Path:
    """The files of a gateway's part, whose archive has these entries: name, type, content."""
    (folder / "openclaw").mkdir(parents=True)
    (folder / "openclaw/token").write_text("t" * 64)
    with tarfile.open(folder / "openclaw/state.tar.gz", "w:gz") as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/shadow"
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, BytesIO(content) if kind == tarfile.REGTYPE else None)
    return folder


def repacked(files: Path) -> dict[str, tarfile.TarInfo]:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        _gateway(tar, files)
    data.seek(0)
    with tarfile.open(fileobj=data) as tar:
        return {entry.name: entry for entry in tar}


def test_of_openclaws_archive_the_state_alone_is_taken_for_its_account_alone(tmp_path: Path) -> None:
    top = f"2026-11-28-openclaw/{PAYLOAD}"
    files = archive(
        tmp_path,
        ("2026-11-28-openclaw/manifest.json", tarfile.REGTYPE, b"{}"),
        (f"{top}state", tarfile.DIRTYPE, b""),
        (f"{top}state/openclaw.sqlite", tarfile.REGTYPE, b"data"),
        (f"{top}../../etc/passwd", tarfile.REGTYPE, b"x"),
        (f"{top}link", tarfile.SYMTYPE, b""),
        (f"{top}device", tarfile.CHRTYPE, b""),
        ("/etc/passwd", tarfile.REGTYPE, b"x"),
    )
    found = repacked(files)
    assert set(found) == {"token", "state/state", "state/state/openclaw.sqlite"}
    assert {(each.uname, each.gname) for each in found.values()} == {("openclaw", "openclaw")}
    assert [each.mode for each in found.values()] == [0o400, 0o700, 0o600]


def test_an_archive_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPart, match="another version"):
        repacked(archive(tmp_path / "a", ("else/openclaw.sqlite", tarfile.REGTYPE, b"")))
    files = archive(tmp_path / "b", (f"{PAYLOAD}openclaw.sqlite", tarfile.REGTYPE, os.urandom(100_000)))
    file = files / "openclaw/state.tar.gz"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(BadPart, match="cannot be read"):
        repacked(files)


def test_nothing_secret_is_an_argument_and_an_old_wal_goes_before_the_database_comes() -> None:
    script = place_script(NOTE, "c" * 64)
    assert "a" * 64 not in script
    assert script.index("rm -f db.sqlite-wal db.sqlite-shm") < script.index("headscale/db.sqlite db.sqlite")
    assert script.index("ca.key") < script.index("/ca.crt")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    for one in (replace(NOTE, roles=("coordinator",)), replace(NOTE, roles=("gateway",))):
        subprocess.run(["sh", "-n", "-c", place_script(one, "c" * 64)], check=True)
    assert "openclaw" not in place_script(replace(NOTE, roles=("coordinator",)), "c" * 64)
    assert "headscale" not in place_script(replace(NOTE, roles=("gateway",)), "c" * 64)


def test_a_host_is_asked_for_its_authorities_and_whether_it_hears_the_control_server(tmp_path: Path) -> None:
    """Run by a shell: a renewed authority has the same key, another one does not."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = {"private-ai-house.crt": authority(key, 1), "private-ai-house-new.crt": authority(other, 2)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    script = ask_script(houses.single())
    assert "https://headscale.house.internal:443/health" in script
    here = script.replace("/usr/local/share/ca-certificates", str(tmp_path)).replace("curl ", "false ")
    said = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=True).stdout.split()
    keys = {f"key={key_of(text)}" for text in files.values()}
    assert set(said) == keys and len(keys) == 2
    assert key_of(authority(key, 3)) == key_of(files["private-ai-house.crt"])


def authority(key: ec.EllipticCurvePrivateKey, number: int) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    made = x509.CertificateBuilder(name, name, key.public_key(), number, NOW, NOW.replace(year=2036))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_nobody_answers_where_nobody_is() -> None:
    assert answering(houses.single(), (), "") == []


def test_a_host_that_waits_for_its_deployment_says_so() -> None:
    subprocess.run(["sh", "-n", "-c", look_script(False)], check=True)
    assert "a restore waits for its end" in look_script(False)


def test_what_a_killed_run_has_left_in_memory_is_removed_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MEMORY", tmp_path)
    (left := tmp_path / f"{check.PRIVATE}left").mkdir()
    (left / "ca.key").write_text("secret")
    (tmp_path / "private-ai-other").mkdir()
    with check.private_folder() as first:
        assert not left.exists()
        with check.private_folder() as second:
            assert first.is_dir() and second.is_dir()
    assert [each.name for each in tmp_path.iterdir()] == ["private-ai-other"]


def test_a_deployment_that_begins_a_new_house_warns_where_there_was_one() -> None:
    house, stamped = houses.single(), replace(PROFILE, stamp="{}")
    said = begins_anew(house, "", {"home": PROFILE, "laptop": stamped})
    assert said is not None and said.startswith("home has no authority, and laptop belonged to a house")
    # A first deployment that was cut off has left no stamp.
    assert begins_anew(house, "", {"home": stamped, "laptop": PROFILE}) is None
    assert begins_anew(house, "-----BEGIN", {"home": PROFILE, "laptop": stamped}) is None


def test_what_a_host_has_backed_up_by_itself_is_restored_for_its_own_roles_alone() -> None:
    made = Manifest(ABOUT, (), (part("gate", "gateway"),), "gate")
    found = targets(made, houses.split(), ("gateway",))
    assert set(found.pieces) == {"gate"} and found.roles("gate") == ("gateway",)
    with pytest.raises(SettingError, match="backup: parts of a coordinator is 'none'"):
        targets(made, houses.split(), ROLES)
