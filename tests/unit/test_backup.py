"""Backups: for whom they are encrypted, which are kept, and what of a damaged one is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from facts.ca import CA_FOLDER
from operations.backup.check import BadPart, compare, unpack, whole_file
from operations.backup.controller import files_of, packed
from operations.backup.folder import HALF, begin, chosen, finish, target, thin_out, whole
from operations.backup.on_host import _coordinator, make_script, parse_made
from operations.engine.download import _behind_mark
from plan.backup.manifest import (
    ABOUT,
    FORMAT,
    MANIFEST,
    SUMS,
    About,
    Manifest,
    Part,
    file_of,
    folder_name,
    missing_parts,
    parse_manifest,
    parse_sums,
)
from plan.backup.recipients import need_recipients, recipients
from plan.backup.retention import MONTHS, NEWEST, superfluous
from plan.engine.command_environment import MARK
from plan.engine.errors import SettingError
from plan.engine.stamp import Deployed, Stamp

#: From age's own README; the other from ssh-keygen.
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE47I4qK+ekQpEZtZ/YwquluXAzCsQBDzJzegqjUUfsq"
SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
NOW = datetime(2026, 11, 28, 21, 20, tzinfo=UTC)
ABOUT_THIS = About("house", "house.internal", NOW, "a" * 64, "0123456789ab")


def test_public_keys_of_age_and_of_ssh_are_taken() -> None:
    assert recipients([]) == ()
    assert recipients([AGE, f"{SSH} anna@laptop"]) == (AGE, SSH)


@pytest.mark.parametrize(
    "wrong",
    [
        AGE,
        None,
        [None],
        [""],
        ["age1"],
        # One letter is another one; two are exchanged; one is missing.
        [AGE.replace("z7h", "z8h")],
        [AGE.replace("ql3", "q3l")],
        [AGE[:-1]],
        [AGE.upper()],
        [f"{AGE}\n"],
        ["ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB"],
        ["ssh-ed25519 AAAA"],
        ["ssh-ed25519 ===="],
        [AGE, AGE],
        [SSH, f"{SSH} again"],
        [f"{AGE} -o /etc/passwd"],
    ],
)
def test_what_is_no_public_key_is_refused(wrong: object) -> None:
    with pytest.raises(SettingError, match=r"backup_recipients is .*; accepted: .*Next: "):
        recipients(wrong)


@pytest.mark.parametrize("given", [SECRET, [SECRET], [SECRET.lower()], ["-----BEGIN OPENSSH PRIVATE KEY-----"]])
def test_a_private_key_is_refused_and_not_shown(given: object) -> None:
    with pytest.raises(SettingError, match="a private key") as caught:
        recipients(given)
    assert "GFPYY" not in str(caught.value).upper()


def test_no_backup_is_made_that_nobody_could_read() -> None:
    need_recipients((AGE,))
    with pytest.raises(SettingError, match=r"backup_recipients is \[\]; accepted: at least one of .*make backup-key"):
        need_recipients(())


def test_the_newest_and_one_of_each_month_are_kept() -> None:
    daily = [NOW - timedelta(days=days) for days in range(800)]
    gone = superfluous(daily)
    kept = [each for each in daily if each not in gone]
    assert kept[:NEWEST] == daily[:NEWEST]
    # The month of the newest ten is one of the twelve.
    assert len(kept) == NEWEST + MONTHS - 1
    assert all((each + timedelta(days=1)).month != each.month for each in kept[NEWEST:])
    assert superfluous(kept) == []
    assert gone == sorted(gone)


@pytest.mark.parametrize("count", [0, 1, NEWEST])
def test_few_backups_are_all_kept(count: int) -> None:
    assert superfluous(NOW - timedelta(minutes=each) for each in range(count)) == []


def test_the_newest_is_kept_and_the_eleventh_of_a_day_is_not() -> None:
    times = [NOW - timedelta(minutes=each) for each in range(NEWEST + 1)]
    assert superfluous(times) == [times[-1]]
    # A year without a backup ages none: months without one do not count.
    old = NOW - timedelta(days=4000)
    assert superfluous([NOW, old]) == []


def test_a_manifest_is_read_as_it_was_written() -> None:
    part = Part("home", ("coordinator",), "host-home.age", 12, "b" * 64, {"ca/ca.key": 3}, {"headscale": "0.29.3"})
    made = Manifest(ABOUT_THIS, (AGE,), (part,))
    assert parse_manifest(made.text) == made
    assert folder_name(ABOUT_THIS) == "house-20261128T212000Z"
    assert json.loads(ABOUT_THIS.text("home", ("gateway",)))["host"] == "home"
    assert missing_parts(made)[:2] == ["there is no part of a gateway", "there is no part of a controller"]
    assert "host-home.age lacks headscale/db.sqlite" in missing_parts(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("authority"),
        lambda raw: raw.update(format=FORMAT + 1),
        lambda raw: raw.update(made="soon"),
        lambda raw: raw.update(made="2026-11-28T21:20:00"),
        lambda raw: raw.update(parts=[]),
        lambda raw: raw["parts"].append(raw["parts"][0]),
        lambda raw: raw["parts"][0].update(file="../../etc/passwd.age"),
        lambda raw: raw["parts"][0].update(size="much"),
    ],
)
def test_a_manifest_that_is_not_understood_is_an_error(change: Callable[[dict[str, object]], object]) -> None:
    part = Part("home", ("coordinator",), "host-home.age", 12, "b" * 64, {}, {})
    raw = json.loads(Manifest(ABOUT_THIS, (AGE,), (part,)).text)
    change(raw)
    with pytest.raises(ValueError, match="understood"):
        parse_manifest(json.dumps(raw))


def test_hosts_and_the_controller_have_parts_of_different_names() -> None:
    assert len({file_of(""), file_of("controller"), file_of("home")}) == 3


def test_digests_that_are_not_understood_are_an_error() -> None:
    assert parse_sums(f"{'a' * 64}  ca/ca.key\n") == {"ca/ca.key": "a" * 64}
    with pytest.raises(ValueError, match="not understood"):
        parse_sums(f"\\{'a' * 64}  odd\\nname\n")


def test_an_answer_that_was_cut_short_is_an_error() -> None:
    stamp = Stamp(Deployed("0123456789ab", "", {"headscale": "1"}, "home"), NOW).text.replace("\n", "")
    whole_answer = f"holds 3 {ABOUT}\nstamp {stamp}\npart 12 {'a' * 64}\n"
    made = parse_made(whole_answer)
    assert (made.size, made.sha256, made.holds, made.programs) == (12, "a" * 64, {ABOUT: 3}, {"headscale": "1"})
    for cut in (whole_answer.splitlines()[0], whole_answer.replace("part 12", "part x"), ""):
        with pytest.raises(ValueError, match="cut short"):
            parse_made(cut)
    # A stamp is read here as everywhere: one without a time, or without a zone, is none.
    for wrong in (whole_answer.replace('"programs"', '"others"'), whole_answer.replace("+00:00", "")):
        with pytest.raises(ValueError, match="not understood"):
            parse_made(wrong)


def test_nothing_secret_is_an_argument_of_a_hosts_script() -> None:
    script = make_script(("coordinator", "gateway"), (AGE,), "/etc/openclaw/token")
    assert "umask 077" in script.splitlines()[0]
    assert "cat /etc/openclaw/token >openclaw/token" in script
    # What a role does not have is not looked for.
    assert "openclaw" not in make_script(("coordinator",), (AGE,), "/etc/openclaw/token")
    assert "sqlite3" not in make_script(("gateway",), (AGE,), "/etc/openclaw/token")


@pytest.fixture
def coordinator(tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    """What a coordinator's script does with the files of a made-up root, whose `sqlite3` says what it is told."""
    key, certificate = authority(tmp_path)
    for path, content in (
        *(("headscale/noise_private.key", "noise"), ("headscale/derp_server_private.key", "relay")),
        *(("headscale/db.sqlite", ""), ("ca/ca.key", key), ("ca/ca.crt", certificate), ("bin/said", "ok\n1\n")),
        (
            "bin/sqlite3",
            '#!/bin/sh\ncase $* in *backup*) touch headscale/db.sqlite ;; *) cat "$(dirname "$0")/said"; esac\n',
        ),
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    (tmp_path / "bin/sqlite3").chmod(0o755)
    script = "\n".join(["set -e", *_coordinator()]).replace("= headscale ", '= "$(id -un)" ')
    script = script.replace("/var/lib/headscale", f"{tmp_path}/headscale").replace(CA_FOLDER, f"{tmp_path}/ca")

    def run() -> subprocess.CompletedProcess[str]:
        work = Path(tempfile.mkdtemp(dir=tmp_path))
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=False
        )

    return run


def authority(folder: Path) -> tuple[str, str]:
    """A key and a certificate for it (PEM), made with openssl."""
    name = ["-subj", "/CN=test", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *name]
    subprocess.run(made, check=True, capture_output=True)
    return (folder / "key").read_text(), (folder / "crt").read_text()


def test_a_hosts_own_files_are_copied(coordinator: Callable[[], subprocess.CompletedProcess[str]]) -> None:
    done = coordinator()
    assert done.returncode == 0, done.stderr


def test_a_damaged_database_is_no_backup(
    coordinator: Callable[[], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "bin/said").write_text("row 1 missing from index\n1\n")
    done = coordinator()
    assert done.returncode and "the copy of Headscale's database is damaged: row 1 missing from index" in done.stderr


def test_a_key_of_another_authority_is_no_backup(
    coordinator: Callable[[], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "ca/ca.key").write_text(authority(tmp_path)[0])
    done = coordinator()
    assert done.returncode and "the key of the authority is not that of its certificate" in done.stderr


def test_a_link_in_the_place_of_an_accounts_file_is_not_followed(
    coordinator: Callable[[], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "headscale/noise_private.key").unlink()
    (tmp_path / "headscale/noise_private.key").symlink_to("/etc/hostname")
    done = coordinator()
    assert done.returncode and "noise_private.key is not a file of headscale. Next: see what it is" in done.stderr


# The folder on the controller.


def made_at(folder: Path, when: datetime, authority: str = "a" * 64, house: str = "house") -> Path:
    about = replace(ABOUT_THIS, made=when, authority=authority, house=house)
    half = begin(folder, about)
    (half / "controller.age").write_bytes(b"encrypted")
    part = Part("", ("controller",), "controller.age", 9, "b" * 64, {}, {})
    return finish(half, Manifest(about, (AGE,), (part,)))


def test_a_backup_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    half = begin(tmp_path, ABOUT_THIS)
    (half / "host-home.age").write_bytes(b"a part")
    assert half.name.startswith(HALF) and half.stat().st_mode & 0o777 == 0o700
    assert list(whole(tmp_path)) == []
    with pytest.raises(SettingError, match="not a whole backup"):
        chosen(str(tmp_path), "house", "house.internal")
    with pytest.raises(SettingError, match="not a whole backup"):
        chosen(str(half), "house", "house.internal")
    # The next one cleans up.
    final = made_at(tmp_path, NOW + timedelta(minutes=1))
    assert [each.name for each in tmp_path.iterdir()] == [final.name]
    assert [each.folder for each in whole(tmp_path)] == [final]


def test_cleaning_up_touches_nothing_of_others(tmp_path: Path) -> None:
    others = [f"{HALF}cottage-20261128T212000Z", f"{HALF}house-of-anna", ".half-eaten", "house-20261128T212000Z.txt"]
    for name in others:
        (tmp_path / name).mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{HALF}house-20261127T212000Z").symlink_to(elsewhere)
    begin(tmp_path, ABOUT_THIS)
    assert elsewhere.is_dir() and all((tmp_path / name).is_dir() for name in others)


def test_superfluous_backups_of_this_house_alone_are_removed(tmp_path: Path) -> None:
    times = [NOW - timedelta(minutes=each) for each in range(NEWEST + 3)]
    own = [made_at(tmp_path, each) for each in times]
    neighbours = [made_at(tmp_path, each + timedelta(seconds=1), authority="c" * 64) for each in times]
    gone = thin_out(tmp_path, ABOUT_THIS)
    assert sorted(gone) == sorted(own[NEWEST:])
    assert all(each.is_dir() for each in (*own[:NEWEST], *neighbours)) and not any(each.exists() for each in gone)
    assert thin_out(tmp_path, ABOUT_THIS) == []


def test_two_backups_of_one_second_do_not_replace_each_other(tmp_path: Path) -> None:
    made_at(tmp_path, NOW)
    with pytest.raises(OSError):
        made_at(tmp_path, NOW)


def test_the_newest_backup_of_this_house_is_chosen(tmp_path: Path) -> None:
    made_at(tmp_path, NOW)
    newest = made_at(tmp_path, NOW + timedelta(days=1))
    made_at(tmp_path, NOW + timedelta(days=2), house="cottage")
    assert chosen(str(tmp_path), "house", "house.internal").folder == newest
    with pytest.raises(SettingError, match="of another house: cottage"):
        chosen(str(tmp_path / "cottage-20261130T212000Z"), "house", "house.internal")
    (newest / MANIFEST).write_text("{}")
    with pytest.raises(SettingError, match="not understood"):
        chosen(str(newest), "house", "house.internal")
    with pytest.raises(SettingError, match="no backup"):
        (tmp_path / "empty").mkdir()
        chosen(str(tmp_path / "empty"), "house", "house.internal")
    with pytest.raises(SettingError, match="--data from"):
        chosen(str(tmp_path / "none"), "house", "house.internal")


@pytest.mark.parametrize("given", ["", "  ", "none", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"--data to is .*mount the disk"):
        target(given)
    assert {each.name for each in tmp_path.iterdir()} == {"file"}


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SettingError, match="the right to write"):
        target(str(tmp_path))


def test_the_controllers_part_has_inventory_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    (tmp_path / "my/house.py").write_text("coordinator = []\n")
    (tmp_path / "my/group_data").mkdir()
    (tmp_path / "my/group_data/all.py").write_text("house_name = 'house'\n")
    files = files_of("my/house.py")
    assert set(files) == {"inventory/house.py", "group_data/all.py"}
    (tmp_path / "part.tar").write_bytes(packed(files, ABOUT_THIS))
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "part.tar", tmp_path / "out")
    part = Part("", ("controller",), "controller.age", 0, "", dict.fromkeys(files, 0), {})
    assert compare(tmp_path / "out", ABOUT_THIS, part) == ["3 files"]


# A part, once it is decrypted.


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Path, About, Part]:
    """A part of a host that is coordinator and gateway, unpacked, with what the manifest says of it."""
    folder = tmp_path / "opened"
    for name in ("headscale", "ca", "openclaw"):
        (folder / name).mkdir(parents=True)
    with closing(sqlite3.connect(folder / "headscale/db.sqlite")) as database:
        database.execute("CREATE TABLE nodes (id INTEGER PRIMARY KEY, name TEXT)")
        database.executemany("INSERT INTO nodes (name) VALUES (?)", [(f"node {n}" * 50,) for n in range(200)])
        database.commit()
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    certificate = x509.CertificateBuilder(who, who, key.public_key(), 1, NOW, NOW + timedelta(days=9)).sign(
        key, hashes.SHA256()
    )
    (folder / "ca/ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "ca/ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    for path in ("headscale/noise_private.key", "headscale/derp_server_private.key", "openclaw/token"):
        (folder / path).write_text("secret")
    with tarfile.open(folder / "openclaw/state.tar.gz", "w:gz") as tar:
        tar.addfile(entry := tarfile.TarInfo("payload/state/openclaw.sqlite"), io.BytesIO(b""))
        assert entry.size == 0
    programs = {"headscale": "0.29.3"}
    (folder / "deployed.json").write_text(Stamp(Deployed("abc", "def", programs, "home"), NOW).text)
    about = replace(ABOUT_THIS, authority=certificate.fingerprint(hashes.SHA256()).hex())
    (folder / ABOUT).write_text(about.text("home", ("coordinator", "gateway")))
    holds = {str(each.relative_to(folder)): 1 for each in folder.rglob("*") if each.is_file()}
    sums(folder)
    return folder, about, Part("home", ("coordinator", "gateway"), "host-home.age", 0, "", holds, programs)


def sums(folder: Path) -> None:
    """Write the digests of what is there, as a host does."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each.name != SUMS)
    lines = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.relative_to(folder)}\n" for each in files]
    (folder / SUMS).write_text("".join(lines))


def test_a_good_part_says_what_is_in_it(opened: tuple[Path, About, Part]) -> None:
    told = compare(*opened)
    assert told[0] == "Headscale's database is whole and knows 200 nodes"
    assert told[1].startswith("the authority's key fits its certificate") and told[2].startswith("OpenClaw's archive")


def damaged_page(folder: Path) -> None:
    file = folder / "headscale/db.sqlite"
    data = bytearray(file.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    file.write_bytes(data)


def other_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "ca/ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def cut(path: str, left: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_bytes((folder / path).read_bytes()[:left])

    return change


def append(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / path).open("ab") as out:
            out.write(b"\n")

    return change


def openclaws_database(folder: Path) -> None:
    with tarfile.open(folder / "openclaw/state.tar.gz", "w:gz") as tar:
        # The header is right, and what it announces is not there.
        content = (folder / "headscale/db.sqlite").read_bytes()[:8192] + b"\xff" * 4096
        entry = tarfile.TarInfo("payload/state/openclaw.sqlite")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


#: What was damaged before the digests were made, so that only the look at the thing itself tells; and the words.
UNSEEN: list[tuple[Callable[[Path], None], str]] = [
    (damaged_page, "a damaged database of Headscale|a database of Headscale that SQLite does not read"),
    (cut("headscale/db.sqlite", 0), "a database of Headscale that SQLite does not read"),
    (cut("headscale/db.sqlite", 5000), "database of Headscale"),
    (other_key, "a key of the authority that is not that of its certificate"),
    (cut("ca/ca.crt", 100), "an authority that cannot be read"),
    (cut("openclaw/state.tar.gz", 60), "an archive of OpenClaw that cannot be read"),
    (cut("openclaw/state.tar.gz", 0), "an archive of OpenClaw that cannot be read"),
    (openclaws_database, "database of OpenClaw .openclaw.sqlite."),
    (lambda folder: (folder / "openclaw/token").unlink(), "lacks openclaw/token"),
    (cut("deployed.json", 5), "other versions of programs"),
]
#: What was damaged afterwards.
SEEN: list[tuple[Callable[[Path], None], str]] = [
    (append("openclaw/token"), "holds another openclaw/token than was put in"),
    (append("headscale/noise_private.key"), "holds another headscale/noise_private.key"),
    (lambda folder: (folder / "more").touch(), "has more in it"),
    (lambda folder: (folder / "headscale/db.sqlite").unlink(), "lacks headscale/db.sqlite"),
    (lambda folder: (folder / SUMS).unlink(), "does not say what it is"),
    (cut(ABOUT, 20), "does not say what it is"),
]


@pytest.mark.parametrize(
    ("damage", "words", "noticed"), [*((*each, False) for each in UNSEEN), *((*each, True) for each in SEEN)]
)
def test_damage_is_told(
    opened: tuple[Path, About, Part], damage: Callable[[Path], None], words: str, noticed: bool
) -> None:
    folder, about, part = opened
    damage(folder)
    if not noticed:
        sums(folder)
        holds = {path: size for path, size in part.holds.items() if (folder / path).exists()}
        part = replace(part, holds=holds)
    with pytest.raises(BadPart, match=words):
        compare(folder, about, part)


def test_a_part_of_another_backup_or_house_is_told(opened: tuple[Path, About, Part]) -> None:
    folder, about, part = opened
    for other in (replace(about, made=NOW + timedelta(days=1)), replace(about, house="cottage")):
        with pytest.raises(BadPart, match="is of another backup than the manifest beside it: of house"):
            compare(folder, other, part)
    (folder / ABOUT).write_text(replace(about, authority="f" * 64).text("home", ()))
    sums(folder)
    with pytest.raises(BadPart, match="has another authority than the manifest beside it says"):
        compare(folder, replace(about, authority="f" * 64), part)


def test_an_encrypted_file_that_is_not_as_it_was_is_told(tmp_path: Path) -> None:
    file, data = tmp_path / "host-home.age", b"x" * 1000
    part = Part("home", (), file.name, len(data), hashlib.sha256(data).hexdigest(), {}, {})
    with pytest.raises(BadPart, match="is missing"):
        whole_file(file, part)
    file.write_bytes(data)
    whole_file(file, part)
    file.write_bytes(data[:-1])
    with pytest.raises(BadPart, match="is cut off: 999 of 1000 bytes"):
        whole_file(file, part)
    for other in (data[:-1] + b"y", data + b"x"):
        file.write_bytes(other)
        with pytest.raises(BadPart, match="was changed after it was made"):
            whole_file(file, part)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_an_archive_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(BadPart, match="no file of a backup"):
        unpack(tmp_path / "a.tar", tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_an_archive_makes_files_alone(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "in").mkdir()
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(entry)
    with pytest.raises(BadPart, match="no file of a backup"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


def test_an_archive_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.tar").write_bytes(b"nonsense" * 1000)
    with pytest.raises(BadPart, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


# What a host sends.


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("greeting", [b"", b"Welcome!\n", b"\xff" * 5000])
def test_bytes_arrive_as_they_are_behind_whatever_a_shell_says_first(size: int, greeting: bytes) -> None:
    data = bytes(range(256)) * 3 + f"\n{MARK}\n".encode()
    sent = greeting + f"\n{MARK}\n".encode() + data
    pieces = iter([sent[at : at + size] for at in range(0, len(sent), size)])
    assert b"".join(_behind_mark(pieces)) == data


def test_an_answer_that_does_not_begin_is_empty() -> None:
    assert b"".join(_behind_mark(iter([b"This account is not available.\n"]))) == b""
    # Nobody waits for the end of a greeting that has none.
    endless = iter(lambda: b"x" * (1 << 16), b"")
    assert b"".join(_behind_mark(endless)) == b""
