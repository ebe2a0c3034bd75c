"""Open a backup with its private key, and compare all of it with what it says of itself."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from plan.backup.manifest import ABOUT, SUMS, About, Part, missing, parse_about, parse_sums
from plan.engine.errors import STRANGE
from plan.engine.stamp import parse_stamp
from plan.engine.terminal_text import line

#: Memory rather than a disk, where there is such a place.
MEMORY = Path("/dev/shm")
#: How the names of folders begin that hold what is decrypted.
PRIVATE = "private-ai-backup-"


class BadPart(Exception):
    """A part of a backup is of no use, or is not opened; the message says why."""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user enters, and that is removed at the end. What runs that were killed have left of such
    folders is removed as well: they are locked while they are in use."""
    place = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    for each in place.glob(f"{PRIVATE}*"):
        with contextlib.suppress(OSError), _locked(each):
            shutil.rmtree(each)
    folder = Path(tempfile.mkdtemp(prefix=f".{PRIVATE}", dir=place))
    try:
        with _locked(folder):
            # Only now another run may find it.
            folder = folder.rename(place / folder.name.removeprefix("."))
            yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder of this user. Raises OSError when another program holds it, or when it is none."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(opened).st_uid != os.getuid():
            raise PermissionError(f"{folder} is somebody else's")
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def whole_file(file: Path, part: Part) -> None:
    """Raises BadPart unless the encrypted file is there, as it was made."""
    try:
        size = file.stat().st_size
        with file.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise BadPart(f"is missing, or cannot be read: {error.strerror}") from error
    if size < part.size:
        raise BadPart(f"is cut off: {size} of {part.size} bytes are there")
    if (size, digest) != (part.size, part.sha256):
        raise BadPart("was changed after it was made: its digest is another one")


def decrypt(file: Path, identity: Path, to: Path) -> None:
    """Decrypt a part into a new file. age writes what it has read before it finds that the rest is damaged, so the file
    counts only when it succeeds. Raises BadPart."""
    command = ["age", "--decrypt", "--identity", str(identity), "--output", str(to), str(file)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if "no identity matched" in done.stderr:
        raise BadPart(f"is encrypted for another key than {identity}")
    if done.returncode:
        to.unlink(missing_ok=True)
        said = line(" ".join(each for each in done.stderr.splitlines() if "report" not in each))
        raise BadPart(f"cannot be decrypted: {said}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a decrypted part into an empty folder: files alone, and none outside. Raises BadPart."""
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                place = folder / entry.name
                if entry.isdir():
                    continue
                if not entry.isfile() or not place.resolve().is_relative_to(folder.resolve()):
                    raise BadPart(f"holds something that is no file of a backup: {line(entry.name)}")
                place.parent.mkdir(parents=True, exist_ok=True)
                data = tar.extractfile(entry)
                assert data is not None
                with place.open("xb") as out:
                    shutil.copyfileobj(data, out)
    except (tarfile.TarError, OSError) as error:
        raise BadPart(f"cannot be unpacked: {line(error)}") from error


def compare(folder: Path, about: About, part: Part) -> list[str]:
    """What the files of an unpacked part say, in words for people. Raises BadPart for the first that is wrong."""
    try:
        sums = parse_sums((folder / SUMS).read_text(encoding="utf-8"))
        inside = parse_about((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadPart(f"does not say what it is: {line(error)}") from error
    if inside != about:
        raise BadPart(
            f"is of another backup than the manifest beside it: of {inside.house}, {inside.made:%Y-%m-%d %H:%M} UTC"
        )
    there = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()} - {SUMS}
    if lacking := sorted({*missing(part), *(sums.keys() - there)}):
        raise BadPart(f"lacks {', '.join(lacking)}")
    if more := sorted(there - sums.keys()):
        raise BadPart(f"has more in it than it says: {line(', '.join(more))}")
    for path, digest in sums.items():
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            raise BadPart(f"holds another {line(path)} than was put in")
    told = []
    if "coordinator" in part.roles:
        told += [_database(folder / "headscale/db.sqlite"), _authority(folder / "ca", about)]
    if "gateway" in part.roles:
        told.append(_state(folder / "openclaw/state.tar.gz"))
    if part.host:
        stamp = parse_stamp((folder / "deployed.json").read_text(encoding="utf-8"))
        if stamp is None or dict(stamp.what.programs) != dict(part.programs):
            raise BadPart("has other versions of programs in it than the manifest beside it says")
    return told or [f"{len(sums)} files"]


def read_only(file: Path) -> contextlib.closing[sqlite3.Connection]:
    """A database that nobody writes, opened for reading: SQLite makes no file beside it. Raises sqlite3.Error."""
    return contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True))


@contextlib.contextmanager
def _whole(file: Path, what: str) -> Iterator[sqlite3.Connection]:
    """A database that SQLite finds whole, opened for reading. Raises BadPart, also when a question to it fails."""
    try:
        with read_only(file) as opened:
            said = [row[0] for row in opened.execute("PRAGMA integrity_check")]
            if said != ["ok"]:
                raise BadPart(f"has a damaged {what}: {line(said[0])}")
            yield opened
    except sqlite3.Error as error:
        raise BadPart(f"has a {what} that SQLite does not read: {line(error)}") from error


def _database(file: Path) -> str:
    """Headscale's database, looked at by SQLite. Raises BadPart."""
    with _whole(file, "database of Headscale") as opened:
        (nodes,) = opened.execute("SELECT count(*) FROM nodes").fetchone()
    return f"Headscale's database is whole and knows {nodes} nodes"


def _authority(folder: Path, about: About) -> str:
    """The house's authority: key and certificate belong together, and are those of the manifest. Raises BadPart."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except STRANGE as error:
        raise BadPart(f"has an authority that cannot be read: {line(error)}") from error
    if key.public_key() != certificate.public_key():
        raise BadPart("has a key of the authority that is not that of its certificate")
    if certificate.fingerprint(hashes.SHA256()).hex() != about.authority:
        raise BadPart("has another authority than the manifest beside it says")
    return f"the authority's key fits its certificate, good until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _state(file: Path) -> str:
    """OpenClaw's own archive, read to its end (gzip has a checksum), and its databases. Raises BadPart."""
    names = []
    try:
        with tarfile.open(file, "r:gz") as tar, private_folder() as work:
            for entry in tar:
                names.append(entry.name)
                data = tar.extractfile(entry) if entry.isfile() and entry.name.endswith(".sqlite") else None
                if data is not None:
                    with (work / "one.sqlite").open("wb") as out:
                        shutil.copyfileobj(data, out)
                    name = line(entry.name.rpartition("/")[2])
                    with _whole(work / "one.sqlite", f"database of OpenClaw ({name})"):
                        pass
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadPart(f"has an archive of OpenClaw that cannot be read: {line(error)}") from error
    if not any(name.endswith("openclaw.sqlite") for name in names):
        raise BadPart("has an archive of OpenClaw without its state")
    return f"OpenClaw's archive is whole, {len(names)} entries"
