"""The folder of backups on the controller: one folder for each backup, which is whole or has another name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plan.backup.manifest import MANIFEST, About, Manifest, folder_name, parse_manifest
from plan.backup.retention import superfluous
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line

#: On the controller; ignored by git.
DEFAULT = Path(__file__).parent.parent.parent / "backups"
#: What is being made, or removed, begins with it.
HALF = ".half-"


@dataclass(frozen=True)
class Kept:
    """A whole backup: its folder and what it says of itself."""

    folder: Path
    manifest: Manifest


def target(given: str | None) -> Path:
    """Where backups go. Raises SettingError for what cannot take them; nothing is made of it then."""
    if given is None:
        return DEFAULT
    folder = Path(given).expanduser()
    accepted = "a folder that is there and that you may write to, such as a mounted disk"
    if not given.strip() or not folder.is_dir():
        # A disk that is not mounted has no folder, and what would be made in its place is no second place.
        raise SettingError("--data to", given, accepted, "mount the disk, or make the folder: mkdir")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingError("--data to", given, accepted, "choose another folder, or give yourself the right to write")
    return folder.resolve()


def whole(folder: Path) -> Iterator[Kept]:
    """The whole backups in a folder, of any house."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith(".") or each.is_symlink() or not each.is_dir():
            continue
        try:
            yield _kept(each)
        except (OSError, ValueError):
            continue


def _kept(folder: Path) -> Kept:
    """The backup in a folder. Raises OSError, ValueError when its manifest cannot be read."""
    return Kept(folder, parse_manifest((folder / MANIFEST).read_text(encoding="utf-8")))


def chosen(given: str, house: str, domain: str) -> Kept:
    """The backup in a folder, or the newest of this house in a folder of backups. Raises SettingError for what is none,
    and for one of another house."""
    folder = Path(given).expanduser()
    accepted = f"a backup of this house, or a folder of such: {house} ({domain})"
    if not folder.is_dir():
        raise SettingError("--data from", given, accepted, "see `ls` of your folder of backups, or mount the disk")
    if (folder / MANIFEST).exists():
        try:
            found = [_kept(folder)]
        except (OSError, ValueError) as error:
            raise SettingError("--data from", given, f"{accepted}; {line(error)}", "use another backup") from error
    else:
        found = list(whole(folder))
    own = [each for each in found if (each.manifest.about.house, each.manifest.about.domain) == (house, domain)]
    if not own:
        others = sorted({f"{each.manifest.about.house} ({each.manifest.about.domain})" for each in found})
        halves = any(folder.glob(f"{HALF}*")) or folder.name.startswith(HALF)
        why = (
            f"of another house: {line(', '.join(others))}"
            if others
            else "not a whole backup"
            if halves
            else "no backup"
        )
        raise SettingError(f"--data from {given}", why, accepted, "name another folder: --data from=FOLDER")
    return max(own, key=lambda each: each.manifest.about.made)


def newest_here(house: str, domain: str) -> datetime | None:
    """When the newest backup of this house in the default folder was made; None where there is none."""
    try:
        return chosen(str(DEFAULT), house, domain).manifest.about.made
    except SettingError:
        return None


def same_house(kept: Iterator[Kept], about: About) -> list[Kept]:
    """Those of one house, which its authority tells: many houses are called `house`."""
    return [each for each in kept if each.manifest.about.authority == about.authority]


def begin(folder: Path, about: About) -> Path:
    """Make the folder of a backup that is not whole yet; what an earlier one of this house has left is removed."""
    if folder == DEFAULT:
        DEFAULT.mkdir(mode=0o700, exist_ok=True)
    for each in folder.glob(f"{HALF}{about.house}-*"):
        if re.fullmatch(rf"{HALF}{about.house}-\d{{8}}T\d{{6}}Z", each.name) and not each.is_symlink():
            shutil.rmtree(each)
    half = folder / f"{HALF}{folder_name(about)}"
    half.mkdir(mode=0o700)
    return half


def finish(half: Path, manifest: Manifest) -> Path:
    """Write the manifest and give the folder the name of a whole backup. Raises OSError."""
    with (half / MANIFEST).open("x", encoding="utf-8") as out:
        out.write(manifest.text)
        out.flush()
        os.fsync(out.fileno())
    _sync(half)
    final = half.with_name(folder_name(manifest.about))
    # Not over another one: a folder that has something in it is not replaced.
    half.rename(final)
    _sync(final.parent)
    return final


def thin_out(folder: Path, about: About) -> list[Path]:
    """Remove this house's superfluous backups; returns them. What is cut off here, the next backup removes."""
    kept = same_house(whole(folder), about)
    going = superfluous(each.manifest.about.made for each in kept)
    removed = [each.folder for each in kept if each.manifest.about.made in going]
    for each in removed:
        half = each.with_name(f"{HALF}{each.name}")
        each.rename(half)
        shutil.rmtree(half)
    return removed


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
