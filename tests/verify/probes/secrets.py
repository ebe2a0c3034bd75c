"""Searches its host for secrets of the house in places where they must not be. Runs as root: python3 - JOB. The answer
is JSON.

JOB: `files`, paths of secret files. Answer: `files`: path -> "OWNER GROUP MODE", "" when there is no file; `weak`:
tokens that are not 256 random bits in hexadecimal; `found`: where a secret was found; `known`: how many secrets were
searched for; `searched`: how much was searched. It never prints a secret, writes nothing, and uses only modules of
Debian's python3-minimal.
"""

from __future__ import annotations

import base64
import collections
import grp
import json
import os
import pwd
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Complete join keys of Headscale 0.29 (Headscale itself prints them with stars), and private keys as text.
KINDS = {
    "a join key": rb"hskey-auth-[A-Za-z0-9_-]{12}-[A-Za-z0-9_-]{32,}",
    "a private key for backups": rb"AGE-SECRET-KEY-1[A-Z0-9]{58}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40,}",
}
#: Folders that are not searched: Debian's programs (/usr) have no secrets of ours; /proc has its own search.
SKIPPED = ("/proc", "/sys", "/dev", "/usr/lib", "/usr/share", "/usr/bin", "/usr/sbin", "/usr/include")
#: Larger files are not searched (bytes): they are models and programs.
LARGEST_FILE = 16 * 1024 * 1024
#: The most seconds for the files, and for the journal. If they are not enough, the answer says so.
SECONDS = 60.0
LOGS = Path("/var/log")
OVERLAP = 4096


def values(path: str) -> list[bytes]:
    """The secrets in a secret file: a whole token, the lines of a key, Tailscale's private keys."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(1024 * 1024)
    except OSError:
        return []
    if b"PRIVATE KEY-----" in content:
        return re.findall(rb"^[A-Za-z0-9+/=]{40,}$", content, re.M)
    if path.endswith(".sqlite"):
        return []  # the database has only hashes of keys
    found = re.findall(rb"privkey:([0-9a-f]{64})", content)
    for encoded in re.findall(rb'"([A-Za-z0-9+/=]{40,})"', content):
        # tailscaled's state is a JSON object with values in base64.
        found += re.findall(rb"privkey:([0-9a-f]{64})", base64.b64decode(encoded + b"=="))
    # For a key that does not exist, Tailscale writes zeros, also where it prints its settings.
    found = [key for key in found if key.strip(b"0")]
    whole = content.strip()
    return found or ([whole] if 16 <= len(whole) <= 1024 else [])


def weak(path: str) -> bool:
    """Whether a token looks like one that a person has invented: it does not have 64 digits, or few different ones."""
    try:
        content = Path(path).read_bytes().strip()
    except OSError:
        return False
    # Of 10^18 random tokens, one has fewer than 8 different digits.
    return re.fullmatch(rb"[0-9a-f]{64}", content) is None or len(set(content)) < 8


def described(path: str) -> str:
    """Owner, group and mode of a file or folder; "" when it does not exist."""
    try:
        seen = Path(path).lstat()
    except OSError:
        return ""
    return f"{_name(pwd.getpwuid, seen.st_uid)} {_name(grp.getgrgid, seen.st_gid)} {stat.S_IMODE(seen.st_mode):04o}"


def _name(lookup: object, number: int) -> str:
    try:
        return str(lookup(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)


class Seeker:
    """Finds secrets in texts, and names them without printing them."""

    def __init__(self, secrets: dict[str, list[bytes]]) -> None:
        self.owners = {value: path for path, found in secrets.items() for value in found}
        alternatives = [*map(re.escape, self.owners), *KINDS.values()]
        self.pattern = re.compile(b"|".join(b"(?:%s)" % each for each in alternatives))

    def names(self, text: bytes) -> set[str]:
        """The secrets in a text: the names of their files, or their kinds."""
        found = set()
        for match in self.pattern.finditer(text):
            kind = next((name for name, form in KINDS.items() if re.match(form, match[0])), "a secret")
            found.add(self.owners.get(match[0], kind))
        return found


def processes(seeker: Seeker) -> Iterator[tuple[str, str]]:
    """Secrets in arguments and environments of processes: (secret, place)."""
    for process in Path("/proc").glob("[0-9]*"):
        for file, what in (("cmdline", "the arguments"), ("environ", "the environment")):
            try:
                text, name = (process / file).read_bytes(), (process / "comm").read_text().strip()
            except OSError:
                continue  # the process has ended
            for secret in seeker.names(text):
                yield secret, f"{what} of process {process.name} ({name})"


def journal(seeker: Seeker, searched: collections.Counter[str]) -> Iterator[tuple[str, str]]:
    """Secrets in the journal."""
    command = ["journalctl", "--output=cat", "--no-pager", "--quiet", "--reverse", "--all"]
    end, found, rest = time.monotonic() + SECONDS, set(), b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        while part := process.stdout.read(1024 * 1024):
            found |= seeker.names(rest + part)
            rest = part[-OVERLAP:]
            searched["bytes of the journal, newest first"] += len(part)
            if time.monotonic() > end:
                searched["seconds after which the rest of the journal was left"] = int(SECONDS)
                process.kill()
                break
    for secret in found:
        yield secret, "the journal"


def files(seeker: Seeker, searched: collections.Counter[str]) -> Iterator[tuple[str, str]]:
    """Secrets in files that every account can read, and in text logs."""
    end = time.monotonic() + SECONDS
    for folder, names, entries in os.walk("/"):
        names[:] = [name for name in names if _enter(Path(folder, name))]
        for name in entries:
            path = Path(folder, name)
            try:
                seen = path.lstat()
                wanted = seen.st_mode & stat.S_IROTH or LOGS in path.parents
                if not stat.S_ISREG(seen.st_mode) or not wanted or not 0 < seen.st_size <= LARGEST_FILE:
                    continue
                text = path.read_bytes()
            except OSError:
                continue
            searched["files"] += 1
            for secret in seeker.names(text):
                yield secret, str(path)
        if time.monotonic() > end:
            searched["seconds after which the rest of the files was left"] = int(SECONDS)
            return


def _enter(path: Path) -> bool:
    if str(path) in SKIPPED or path == LOGS / "journal":
        return False
    try:
        seen = path.lstat()
    except OSError:
        return False
    # Other accounts cannot reach the content of a closed folder, so it is left out. Text logs are searched anyway.
    return stat.S_ISDIR(seen.st_mode) and bool(seen.st_mode & stat.S_IXOTH or path == LOGS or LOGS in path.parents)


def main(paths: Iterable[str]) -> dict[str, object]:
    secrets = {path: values(path) for path in paths}
    seeker = Seeker(secrets)
    searched: collections.Counter[str] = collections.Counter()
    found = [*processes(seeker), *journal(seeker, searched), *files(seeker, searched)]
    return {
        "files": {path: described(path) for path in secrets},
        "weak": [path for path in secrets if path.endswith("/token") and weak(path)],
        "known": sum(map(len, secrets.values())),
        "found": sorted({f"{secret} in {where}" for secret, where in found}),
        "searched": dict(searched),
    }


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])["files"]), sys.stdout)
