"""The cache on the controller. A program or model in it is not obtained again.

$XDG_CACHE_HOME/private-ai/        (default ~/.cache/private-ai)
    downloads/                     verified files, and *.part files of interrupted downloads
    work/                          build folders, with which the next run continues an interrupted build
    logs/                          one log for each build step
    programs/NAME-VERSION-CPU-SOURCE/
    models/NAME-TAG/
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts.errors import ArtifactError


def root() -> Path:
    """The cache's folder. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By the XDG specification, a relative path is invalid and must be ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "private-ai"


def folder(name: str) -> Path:
    """The folder of the cache with this name ("downloads", "work", ...). Makes it if it is missing."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A temporary folder beside the path to which it will be renamed. It is removed if nobody has renamed it."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def put(staged: Path, target: Path) -> None:
    """Moves a finished folder to its place, and replaces an older one there."""
    if target.exists():
        with staging(target) as old:
            target.rename(old / "old")
            staged.rename(target)
    else:
        staged.rename(target)


@contextmanager
def lock(say: Callable[[str], None]) -> Iterator[None]:
    """Lets only one run at a time fill the cache. A second run prints that it waits, and waits.

    Raises ArtifactError when the path has a character that the programs of a build cannot read.
    """
    if strange := re.search(r'[";:|\\\x00-\x1f\x7f]', str(root())):
        # These characters have a special meaning for cmake, make or PATH. The error would come half an hour later.
        raise ArtifactError(
            f"XDG_CACHE_HOME (or HOME) makes the cache {str(root())!r}, with {strange[0]!r} in it; "
            'accepted: a path without " ; : | \\ and line breaks. Next: set XDG_CACHE_HOME to another folder'
        )
    path = folder(".") / "lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"another run (process {file.read().strip() or 'unknown'}) is filling {root()}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _sweep()
        yield


def _sweep() -> None:
    """Removes temporary folders that killed runs have left."""
    for name in ("downloads", "work", "programs", "models"):
        for path in (root() / name).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
