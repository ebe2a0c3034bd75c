"""The program that upgrades a host, run on files of a folder: both of its ends, and cut off in each of its phases."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from operations.upgrade.scripts import archive
from plan.engine.want import File
from plan.upgrade.notes import PHASES, Note, parse_notes

PROGRAM = Path(__file__).parents[2] / "files/upgrade/upgrade.sh"
#: A version says that it runs, adds to its data, and does what its data say.
START = 'readlink bin/prog >running; echo "$(cat running)" >>data/history; cp data/nodes served'
LOOK = "cat served"
STOP = "rm -f running served"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, where there is such a place: the program waits for the disk after each of its steps."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Host:
    """A folder that stands for a host: configuration, a link to the program, data, units, and one upgrade."""

    def __init__(self, root: Path, **scripts: str) -> None:
        self.root, self.job = root, root / "job"
        for name in ("etc", "bin", "data/deep", "data/cache", "units/multi-user.target.wants", "job"):
            (root / name).mkdir(parents=True)
        (root / "etc/conf").write_text("old")
        (root / "etc/conf").chmod(0o640)
        (root / "data/nodes").write_text("anna\nben\n")
        (root / "data/deep/secret").write_bytes(bytes(range(256)))
        (root / "data/cache/page").write_text("made anew")
        (root / "data/link").symlink_to("/etc/passwd")
        (root / "bin/prog").symlink_to("old")
        (root / "units/boot.service").write_text("")
        (root / "units/multi-user.target.wants/boot.service").symlink_to("../boot.service")
        self.sh(START)
        files = (File(f"{root}/etc/conf", "new", *_me(), "0600"), File(f"{root}/etc/more", "new", *_me(), "0644"))
        names = {
            "PROGRAM": "openclaw",
            "OLD": "1.0",
            "NEW": "1.1",
            "UNITS": f"{root}/units",
            "AT_BOOT": "boot.service",
            "ACCOUNT": "",
            "DATA": f"{root}/data",
            "LEFT_OUT": "./cache",
            "TRIES": "2",
            "PAUSE": "0",
            "LOOKS": "1",
        }
        made = {
            "job": "".join(f"{name}='{value}'\n" for name, value in names.items()),
            "paths": f"{root}/etc/conf\n{root}/etc/more\n{root}/bin/prog\n",
            "gone": "",
            "note": "openclaw 1.0 1.1 ready 1 0\n\n",
            "look": LOOK,
            "attempt": ":",
            "stop": STOP,
            "start": START,
            "restart": START,
            "active": "test -e running",
            "stamp": "echo stamped",
            "journal": "echo the journal of $(cat running)",
        }
        for name, text in {**made, **scripts}.items():
            inside = name in ("look", "attempt", "stop", "start", "restart", "active", "stamp", "journal")
            (self.job / name).write_text(f"cd {root}\n{text}\n" if inside else text)
        (self.job / "after.tar").write_bytes(archive(files, [(f"{root}/bin/prog", "new")]))
        shutil.copy(PROGRAM, self.job / "upgrade")
        self.before = self.files()

    def sh(self, script: str) -> None:
        subprocess.run(["sh", "-c", script], cwd=self.root, check=True)

    def upgrade(self, verb: str) -> int:
        done = subprocess.run(
            ["sh", str(self.job / "upgrade"), verb],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stdout and not done.stderr, done
        return done.returncode

    @property
    def note(self) -> Note:
        [note] = parse_notes(filter(None, (self.job / "note").read_text().splitlines()))
        return note

    def files(self) -> Mapping[str, tuple[str, bytes]]:
        """Path -> mode and content, of all that an upgrade has to put back."""
        found = {}
        for top in ("etc", "bin", "data"):
            for path in sorted((self.root / top).rglob("*")):
                if "cache" not in path.parts:
                    content = str(path.readlink()).encode() if path.is_symlink() else b""
                    content = path.read_bytes() if path.is_file() and not path.is_symlink() else content
                    name = str(path.relative_to(self.root))
                    found[name] = (oct(path.lstat().st_mode), content)
        return found

    def as_before(self) -> bool:
        """Whether all is as it was, apart from what a start of the old version adds to its own data."""
        now = dict(self.files())
        history = now["data/history"][1].decode().split()
        assert set(history) == {"old"}, history
        return {**now, "data/history": self.before["data/history"]} == self.before

    def over(self) -> bool:
        """Whether nothing has to be done at the next boot."""
        return not list((self.root / "units").rglob("boot.service"))


def _me() -> tuple[str, str]:
    return Path.home().owner(), Path.home().group()


def test_a_good_upgrade(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.upgrade("run") == 0
    assert host.note.phase == "done" and host.over()
    assert (tmp_path / "etc/conf").read_text() == (tmp_path / "etc/more").read_text() == "new"
    assert (tmp_path / "running").read_text() == "new\n"
    # What is needed for the way back stays, and is noted with its size.
    assert host.note.size == (host.job / "state.tar").stat().st_size > 0 and (host.job / "before.tar").exists()
    # What is made anew is not copied.
    with tarfile.open(host.job / "state.tar") as tar:
        names = tar.getnames()
    assert "./deep/secret" in names and not any("cache" in name for name in names)
    # It is done once.
    (tmp_path / "etc/conf").write_text("changed since")
    for verb in ("run", "boot", "recover"):
        assert host.upgrade(verb) == 0
    assert (tmp_path / "etc/conf").read_text() == "changed since"


NEW = 'test "$(readlink bin/prog)" = old || '
BROKEN = {
    "does not start": {"start": "echo loading...; echo prog.service was not ready within 60 s >&2; exit 1"},
    "starts mute": {"start": START, "look": f"{NEW}exit 1; cat served"},
    "answers wrongly": {"start": START, "look": f"{NEW}{{ echo nonsense; exit; }}; cat served"},
    "eats its data": {"start": f"rm -r data/deep; echo anna >data/nodes; {START}"},
    "changes its data and does not start": {
        "start": "echo 2 >data/version; chmod 0600 data/nodes; rm data/link; exit 1"
    },
    "loses its files": {"start": "rm -r etc/* bin/prog; exit 1"},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_version_is_taken_back(how: str, tmp_path: Path) -> None:
    host = Host(tmp_path, **BROKEN[how])
    assert host.upgrade("run") == 1
    assert host.note.phase == "back" and host.over()
    assert host.as_before(), how
    assert (tmp_path / "running").read_text() == "old\n"
    assert "the journal of old" in (host.job / "log.old").read_text()
    assert (host.job / "log.new").exists()
    assert "the data are as before: " in (host.job / "log").read_text()
    assert "start" in host.note.why


def test_why_it_did_not_start_is_the_line_that_says_so(tmp_path: Path) -> None:
    host = Host(tmp_path, **BROKEN["does not start"])
    host.upgrade("run")
    assert host.note.why == "it did not start: prog.service was not ready within 60 s"


def test_an_old_version_that_did_nothing_asks_nothing_of_the_new_one(tmp_path: Path) -> None:
    host = Host(tmp_path, look="exit 1")
    assert host.upgrade("run") == 0 and host.note.phase == "done"
    assert "only had to start" in host.note.why


def test_a_version_of_which_nothing_is_asked_has_to_run_all_the_same(tmp_path: Path) -> None:
    """As an OpenClaw that refuses its configuration: systemd has started it, and then it ends."""
    host = Host(tmp_path, look="exit 1", start=f"{START}; rm running")
    assert host.upgrade("run") == 1 and host.note.phase == "back" and host.as_before()


def test_an_old_version_that_does_not_come_back_is_said(tmp_path: Path) -> None:
    host = Host(tmp_path, start="exit 1", restart="readlink bin/prog >running")
    assert host.upgrade("run") == 1
    assert host.note.phase == "stuck" and host.as_before() and host.over()
    assert "it did:\nanna\nben" in (host.job / "log").read_text()


def test_before_anything_has_changed_a_failure_starts_the_old_version_again(tmp_path: Path) -> None:
    for number, scripts in enumerate(({"stop": "exit 1"}, {"job": "", "paths": ""})):
        root = tmp_path / str(number)
        if "job" in scripts:
            host = Host(root)
            text = (host.job / "job").read_text()
            (host.job / "job").write_text(text.replace(f"DATA='{root}/data'", f"DATA='{root}/nowhere'"))
        else:
            host = Host(root, **scripts)
        assert host.upgrade("run") == 1
        assert host.note.phase == "back" and host.as_before() and host.over()
        assert "could not be" in host.note.why


#: Phase -> the script in which the power goes off: the program is killed, with nothing after it.
OFF = {
    "look": {"look": "kill -9 $PPID"},
    "stop": {"stop": f"{STOP}; kill -9 $PPID"},
    "start": {"start": f"rm data/nodes; {START}; kill -9 $PPID"},
    "check": {"attempt": "echo 2 >data/version; kill -9 $PPID"},
    "return": {"start": "rm -r data/deep; exit 1", "stop": f"{NEW}kill -9 $PPID; {STOP}"},
}


@pytest.mark.parametrize("verb", ["boot", "recover"])
@pytest.mark.parametrize("phase", OFF)
def test_an_upgrade_that_was_cut_off_is_taken_back(phase: str, verb: str, tmp_path: Path) -> None:
    host = Host(tmp_path, **OFF[phase])
    assert host.upgrade("run") == -9
    assert host.note.phase == phase and phase in PHASES and not host.over()
    for name, text in {"look": LOOK, "attempt": ":", "stop": STOP}.items():
        (host.job / name).write_text(f"cd {tmp_path}\n{text}\n")
    assert host.upgrade(verb) == 0
    assert host.note.phase == "back" and host.over() and host.as_before()
    if verb == "recover":
        assert (tmp_path / "running").read_text() == "old\n"


def test_the_way_back_can_be_cut_off_too(tmp_path: Path) -> None:
    """Half of the data are back when the power goes off again."""
    host = Host(tmp_path, **OFF["start"])
    host.upgrade("run")
    (tmp_path / "data/history").unlink()
    (tmp_path / "data/half").write_text("")
    (tmp_path / "etc/conf").unlink()
    assert host.upgrade("boot") == 0
    assert host.note.phase == "back" and host.as_before()


#: What a way back puts into place -> what the upgrade has kept.
GIVEN = {"after.tar": "before.tar", "put.tar": "state.tar", "gone": "missing", "expected": "before"}


def test_a_way_back_brings_back_the_files_and_data_of_before(tmp_path: Path) -> None:
    """What was there before the upgrade is put into place, and this can be undone as well."""
    host = Host(tmp_path)
    host.upgrade("run")
    upgraded = host.files()
    for broken in (True, False):
        # A conversation since the upgrade.
        (tmp_path / "data/since").write_text("lost by going back")
        for name, given in GIVEN.items():
            shutil.copy(host.job / given, tmp_path / name)
        again = tmp_path / "again"
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(host.job, again)
        for name in GIVEN:
            shutil.copy(tmp_path / name, again / name)
        (again / "note").write_text("openclaw 1.1 1.0 ready 1 0\n\n")
        if broken:
            (again / "start").write_text("exit 1")
        done = subprocess.run(["sh", str(again / "upgrade"), "run"], check=False)
        if broken:
            assert done.returncode == 1
            now = dict(host.files())
            assert now.pop("data/since")[1] == b"lost by going back"
            assert {**now, "data/history": upgraded["data/history"]} == upgraded
        else:
            assert done.returncode == 0 and host.as_before() and not (tmp_path / "etc/more").exists()
