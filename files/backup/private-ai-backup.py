#!/usr/bin/python3
"""Written by the deployment. Makes this host's own backup, keeps it, and removes superfluous ones.

Run by its timer, as root: `private-ai-backup SETTINGS`. The settings name a shell script, which makes one encrypted
file and says what is in it. Only when that file is in its place, and is what was made, the backup gets its name.
It uses no module that python3-minimal lacks.
"""

import binascii
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

#: What is being made, or removed, begins with it.
HALF = ".half-"


class NoBackup(Exception):
    """The message says why, and what a person does."""


def place(settings):
    """This host's folder in the folder for backups."""
    folder, own = Path(settings["folder"]), Path(settings["state"])
    if not folder.is_dir():
        raise NoBackup(f"{folder} is not there. Next: mount the disk, or make the folder")
    if settings["mounted"] and folder.stat().st_dev == own.stat().st_dev:
        raise NoBackup(f"no other disk is mounted at {folder} (backup_folder_mounted is True). Next: mount it")
    mine = folder / f"on-{settings['host']}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.is_symlink():
        raise NoBackup(f"{mine} is a link. Next: see what it is, remove it")
    return mine


def about(settings, now):
    """What the backup is of, in the form of plan/backup/manifest.py."""
    lines = Path(settings["authority"]).read_text(encoding="ascii").splitlines()
    certificate = binascii.a2b_base64("".join(line for line in lines if not line.startswith("-")))
    return {
        **settings["about"],
        "made": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", now),
        "authority": hashlib.sha256(certificate).hexdigest(),
        "revision": json.loads(Path(settings["stamp"]).read_text(encoding="utf-8"))["revision"],
    }


def part_of(settings, said):
    """The part of the manifest, from what the script printed."""
    holds, programs, made = {}, None, None
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        first, _, second = rest.partition(" ")
        if word == "holds":
            holds[second] = int(first)
        elif word == "stamp":
            programs = json.loads(rest)["programs"]
        elif word == "part":
            made = int(first), second
    if made is None or programs is None:
        raise NoBackup("what the script said was cut short. Next: start the unit again")
    host = settings["host"]
    return {
        "host": host,
        "roles": settings["roles"],
        "file": f"host-{host}.age",
        "size": made[0],
        "sha256": made[1],
        "holds": holds,
        "programs": programs,
    }


def remove(folder):
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(folder)], check=True)


def written(path, pieces):
    """Write a new file for root alone. At the end it is on the disk. Returns its digest."""
    digest = hashlib.sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:  # noqa: PTH123
        for piece in pieces:
            out.write(piece)
            digest.update(piece)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def pieces_of(path):
    with path.open("rb") as data:
        while piece := data.read(1 << 20):
            yield piece


def on_disk(folder):
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(opened)
    os.close(opened)


def kept(folder, house, authority):
    """The times in the names of this house's whole backups here. A house is known by its authority."""
    found = []
    for each in folder.iterdir():
        name = re.fullmatch(re.escape(house) + r"-(\d{8}T\d{6}Z)", each.name)
        if not name or each.is_symlink():
            continue
        try:
            manifest = json.loads((each / "manifest.json").read_text(encoding="utf-8"))
            if manifest["authority"] == authority:
                found.append(name[1])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def superfluous(times, newest, months):
    """As plan/backup/retention.py, of the times in names: the `newest` ones stay, and the last of each of `months`."""
    stays, seen = set(), []
    for number, each in enumerate(sorted(times, reverse=True)):
        if each[:6] not in seen:
            seen.append(each[:6])
            if len(seen) <= months:
                stays.add(each)
        if number < newest:
            stays.add(each)
    return sorted(set(times) - stays)


def make(settings):
    folder, now = place(settings), time.gmtime()
    told, house = about(settings, now), settings["about"]["house"]
    for each in folder.glob(f"{HALF}{house}-*"):
        remove(each)
    made = time.strftime("%Y%m%dT%H%M%SZ", now)
    half, final = folder / f"{HALF}{house}-{made}", folder / f"{house}-{made}"
    half.mkdir(mode=0o700)
    inside = {**told, "host": settings["host"], "roles": settings["roles"]}
    done = subprocess.run(
        ["sh", "-c", settings["script"]],
        input=json.dumps(inside, indent=2) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoBackup(f"the script ended with status {done.returncode}; its words stand above")
    part, encrypted = part_of(settings, done.stdout), Path(settings["encrypted"])
    if written(half / part["file"], pieces_of(encrypted)) != part["sha256"]:
        raise NoBackup(f"what arrived in {folder} is not what was made. Next: see to that disk")
    encrypted.unlink()
    manifest = {**told, "recipients": settings["recipients"], "alone": settings["host"], "parts": [part]}
    written(half / "manifest.json", [(json.dumps(manifest, indent=2) + "\n").encode()])
    on_disk(half)
    half.rename(final)
    on_disk(folder)
    note = Path(settings["note"])
    new = note.with_name(f"{note.name}.new")
    new.write_text(f"{int(time.time())}\n", encoding="ascii")
    new.chmod(0o644)
    new.replace(note)
    print(f"{final}: {part['size']} bytes")
    for each in superfluous(kept(folder, house, told["authority"]), settings["newest"], settings["months"]):
        # Whatever the clock said: never the one that was just made.
        if each != made:
            gone = folder / f"{HALF}{house}-{each}"
            (folder / f"{house}-{each}").rename(gone)
            remove(gone)
            print(f"removed, since newer ones are there: {house}-{each}")


def main():
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        make(settings)
    except (NoBackup, OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        sys.exit(f"no backup: {error}")


if __name__ == "__main__":
    main()
