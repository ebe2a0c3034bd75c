"""The cache on the controller: what has been obtained once is not obtained again.

$XDG_CACHE_HOME/private-ai/        (default ~/.cache/private-ai)
    downloads/                     verified files, and *.part of interrupted downloads
    work/                          build trees, kept so that an interrupted build goes on where it was
    logs/                          one log per build step
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
    """The cache's folder; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and must be ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "private-ai"


def folder(name: str) -> Path:
    """A folder of the cache by name ("downloads", "work", ...), made if it is missing."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A temporary folder next to where its content will be renamed to; removed when it was not."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def put(staged: Path, target: Path) -> None:
    """Rename a finished folder into place, replacing an older one."""
    if target.exists():
        with staging(target) as old:
            target.rename(old / "old")
            staged.rename(target)
    else:
        staged.rename(target)


@contextmanager
def lock(say: Callable[[str], None]) -> Iterator[None]:
    """Only one run at a time fills the cache; the second one says that it waits, and waits.

    Raises ArtifactError for a path that the programs of a build cannot be told.
    """
    if strange := re.search(r'[";:|\\\x00-\x1f\x7f]', str(root())):
        # cmake, make or PATH read these as something else, half an hour later.
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
    """Remove the temporary folders of runs that were killed."""
    for name in ("downloads", "work", "programs", "models"):
        for path in (root() / name).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
