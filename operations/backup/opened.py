"""Open the parts of a backup that a restore needs, and pack what each host gets: files with their owners, no more.

Nothing that is not encrypted gets a name on this computer's disk, so nothing is left when the run is ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import IO

from operations.backup.check import MEMORY, BadPart, compare, decrypt, private_folder, read_only, unpack, whole_file
from plan.backup.manifest import About, Manifest
from plan.backup.places import HEADSCALE_KEYS
from plan.backup.restoring import Piece
from plan.engine.errors import STRANGE
from plan.engine.ip_addresses import is_address
from plan.engine.terminal_text import line
from plan.openclaw.configuration import ACCOUNT

#: Where OpenClaw's archive has the state folder (`openclaw backup create`, 2026.9.6): behind a folder of its own.
PAYLOAD = "payload/posix/home/node/.openclaw/"


@dataclass(frozen=True)
class Bundle:
    """What one host gets: an open tar archive without a name on the disk. `told`: what the parts say of themselves.

    Of a coordinator: `authority` is the CA's certificate (PEM), `addresses` are those that its node had outside the
    VPN.
    """

    file: IO[bytes]
    size: int
    sha256: str
    told: tuple[str, ...]
    authority: str
    addresses: tuple[str, ...]

    @property
    def path(self) -> Path:
        """A path at which this process can open the archive."""
        return Path(f"/dev/fd/{self.file.fileno()}")


def bundle(folder: Path, about: About, identity: Path, pieces: Iterable[Piece]) -> Bundle:
    """Open and compare the parts of a backup in `folder`, and pack what one host gets of them. Raises BadPart."""
    told, addresses = list[str](), tuple[str, ...]()
    authority = ""
    # It stays open until the run has sent it.
    packed = tempfile.TemporaryFile(dir=MEMORY if MEMORY.is_dir() else None)  # noqa: SIM115
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for piece in pieces:
            with _opened(folder, about, identity, piece, told) as files:
                if "coordinator" in piece.roles:
                    authority = (files / "ca/ca.crt").read_text(encoding="ascii")
                    addresses = endpoints(files / "headscale/db.sqlite", piece.part.host)
                    _coordinator(tar, files)
                if "gateway" in piece.roles:
                    _gateway(tar, files)
                _hooks(tar, files / "hooks")
    packed.flush()
    packed.seek(0)
    digest = hashlib.file_digest(packed, "sha256").hexdigest()
    return Bundle(packed, packed.tell(), digest, tuple(told), authority, addresses)


def authority_of(folder: Path, manifest: Manifest, identity: Path) -> str:
    """The CA's certificate (PEM) in a backup, from its coordinator's part. Raises BadPart."""
    part = next((each for each in manifest.parts if "coordinator" in each.roles), None)
    if part is None:
        raise BadPart("there is no part of a coordinator")
    with _opened(folder, manifest.about, identity, Piece(part, ("coordinator",)), []) as files:
        return (files / "ca/ca.crt").read_text(encoding="ascii")


@contextlib.contextmanager
def _opened(folder: Path, about: About, identity: Path, piece: Piece, told: list[str]) -> Iterator[Path]:
    """The files of a part, in a folder that is removed at the end. Raises BadPart, which names the part."""
    part = piece.part
    try:
        with private_folder() as work:
            whole_file(folder / part.file, part)
            decrypt(folder / part.file, identity, work / "part.tar")
            files = work / "files"
            files.mkdir()
            unpack(work / "part.tar", files)
            (work / "part.tar").unlink()
            told += [f"{part.file}: {words}" for words in compare(files, about, part)]
            yield files
    except BadPart as error:
        raise BadPart(f"{part.file} {error}") from error


def endpoints(database: Path, name: str) -> tuple[str, ...]:
    """The addresses that a node had on local networks, as Headscale's database has them. Empty when it has none."""
    try:
        with read_only(database) as opened:
            rows = opened.execute("SELECT endpoints FROM nodes WHERE given_name = ?", (name,)).fetchall()
        places = [
            str(each).rpartition(":")[0].strip("[]") for (text,) in rows for each in json.loads(text or "null") or ()
        ]
    except (sqlite3.Error, *STRANGE):
        return ()
    return tuple(dict.fromkeys(each for each in places if is_address(each) and not ip_address(each).is_loopback))


def _add(tar: tarfile.TarFile, name: str, data: bytes, owner: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uname, entry.gname = len(data), mode, owner, owner
    tar.addfile(entry, io.BytesIO(data))


def _coordinator(tar: tarfile.TarFile, files: Path) -> None:
    for name in ("db.sqlite", *HEADSCALE_KEYS):
        _add(tar, f"headscale/{name}", (files / "headscale" / name).read_bytes(), "headscale", 0o600)
    for name in ("ca.key", "ca.crt"):
        _add(tar, f"ca/{name}", (files / "ca" / name).read_bytes(), "root", 0o600)
    record = files / "devices.json"
    if record.exists():
        _add(tar, "devices.json", record.read_bytes(), "root", 0o600)


def _gateway(tar: tarfile.TarFile, files: Path) -> None:
    _add(tar, "token", (files / "openclaw/token").read_bytes(), ACCOUNT, 0o400)
    try:
        with tarfile.open(files / "openclaw/state.tar.gz", "r:gz") as state:
            count = sum(_state_entry(tar, state, entry) for entry in state)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadPart(f"has an archive of OpenClaw that cannot be read: {line(error)}") from error
    if not count:
        raise BadPart(f"has an archive of OpenClaw without {PAYLOAD}, so of another version of it")


def _state_entry(tar: tarfile.TarFile, state: tarfile.TarFile, entry: tarfile.TarInfo) -> int:
    """Pack one entry of OpenClaw's archive for the account alone. Returns 1 for a file of the state, else 0.

    Links, which OpenClaw's own restore refuses as well, and whatever lies outside the state are left out.
    """
    _, found, path = f"/{entry.name}/".partition(f"/{PAYLOAD}")
    path = path.rstrip("/")
    if not found or not path or ".." in PurePosixPath(path).parts:
        return 0
    wanted = tarfile.TarInfo(f"state/{path}")
    wanted.uname = wanted.gname = ACCOUNT
    wanted.mtime = entry.mtime
    if entry.isdir():
        wanted.type, wanted.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(wanted)
        return 0
    data = state.extractfile(entry) if entry.isfile() or entry.islnk() else None
    if data is None:
        return 0
    content = data.read()
    wanted.size, wanted.mode = len(content), 0o700 if entry.mode & 0o100 else 0o600
    tar.addfile(wanted, io.BytesIO(content))
    return 1


def _hooks(tar: tarfile.TarFile, folder: Path) -> None:
    for file in sorted(each for each in folder.rglob("*") if each.is_file()) if folder.is_dir() else ():
        path = file.relative_to(folder)
        _add(tar, f"hooks/{path}", file.read_bytes(), "root", 0o755 if len(path.parts) == 1 else 0o644)
