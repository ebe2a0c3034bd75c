"""What a backup says of itself: beside it for people and programs, and inside each of its encrypted parts.

It holds no secret. Digests of what is inside stand inside only: from the digest of a short secret it could be guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from plan.engine.errors import STRANGE

#: The form of the manifest; a later one that old programs must not read has another number.
FORMAT = 1
#: Beside the parts; its presence says that the backup is whole.
MANIFEST = "manifest.json"
#: In each part: what it is of, and the digests of its files.
ABOUT, SUMS = "about.json", "SHA256SUMS"
#: The part of the computer from which the house is deployed.
CONTROLLER = "controller"
#: What a role's part must hold.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "coordinator": (
        "headscale/db.sqlite",
        "headscale/noise_private.key",
        "headscale/derp_server_private.key",
        "ca/ca.key",
        "ca/ca.crt",
    ),
    "gateway": ("openclaw/state.tar.gz", "openclaw/token"),
    CONTROLLER: (),
}


@dataclass(frozen=True)
class About:
    """What a backup is of. `made`: in UTC. `authority`: SHA-256 of the CA's certificate. `revision`: of this
    repository, on the computer that made it."""

    house: str
    domain: str
    made: datetime
    authority: str
    revision: str

    def text(self, host: str, roles: Sequence[str]) -> str:
        """What a host's part, or the controller's, has inside."""
        return json.dumps({**_about(self), "host": host, "roles": list(roles)}, indent=2) + "\n"


@dataclass(frozen=True)
class Part:
    """One encrypted file: of which host, with which roles. `size` in bytes and `sha256` are of the encrypted file;
    `holds`: path -> bytes of each file in it; `programs`: name -> version, as the host's stamp has them."""

    host: str
    roles: tuple[str, ...]
    file: str
    size: int
    sha256: str
    holds: Mapping[str, int]
    programs: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """A whole backup. `recipients`: the public keys for which it is encrypted. `alone`: the host that has made it by
    itself, of itself alone; "" for a backup of the whole house."""

    about: About
    recipients: tuple[str, ...]
    parts: tuple[Part, ...]
    alone: str = ""

    @property
    def text(self) -> str:
        """The file's content."""
        raw = {**_about(self.about), "recipients": list(self.recipients), "parts": list(map(asdict, self.parts))}
        return json.dumps(raw | ({"alone": self.alone} if self.alone else {}), indent=2) + "\n"


def _about(about: About) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(about), "made": about.made.isoformat(timespec="seconds")}


def parse_manifest(text: str) -> Manifest:
    """Raises ValueError when it is not understood."""
    try:
        raw = json.loads(text)
        parts = tuple(_part(each) for each in raw["parts"])
        if not parts or len({part.file for part in parts}) < len(parts):
            raise ValueError("it has no parts, or one twice")
        return Manifest(parse_about(text), tuple(map(str, raw["recipients"])), parts, str(raw.get("alone", "")))
    except STRANGE as error:
        raise ValueError(f"the manifest is not understood: {error!r}") from error


def parse_about(text: str) -> About:
    """What a manifest, or ABOUT in a part, says of the backup. Raises ValueError when it is not understood."""
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']!r} is of another version of this project")
        made = datetime.fromisoformat(raw["made"])
        if made.tzinfo is None:
            raise ValueError("a time without its zone")
        return About(
            str(raw["house"]), str(raw["domain"]), made.astimezone(UTC), str(raw["authority"]), str(raw["revision"])
        )
    except STRANGE as error:
        raise ValueError(f"it is not understood: {error!r}") from error


def _part(raw: Any) -> Part:
    if not re.fullmatch(r"[a-z0-9-]{1,63}\.age", raw["file"]):
        raise ValueError(f"a part's name: {raw['file']!r}")
    return Part(
        host=str(raw["host"]),
        roles=tuple(map(str, raw["roles"])),
        file=raw["file"],
        size=int(raw["size"]),
        sha256=str(raw["sha256"]),
        holds={str(path): int(size) for path, size in raw["holds"].items()},
        programs={str(name): str(version) for name, version in raw["programs"].items()},
    )


def file_of(host: str) -> str:
    """The name of a host's part. No host is called CONTROLLER with this ending: its part has no host."""
    return f"host-{host}.age" if host else f"{CONTROLLER}.age"


def folder_name(about: About) -> str:
    """The name of a backup's folder: it sorts by time, and every file system takes it."""
    return f"{about.house}-{about.made:%Y%m%dT%H%M%SZ}"


def missing(part: Part) -> list[str]:
    """Which files a part of these roles lacks."""
    return [path for role in part.roles for path in NEEDED.get(role, ()) if path not in part.holds]


def missing_parts(manifest: Manifest) -> list[str]:
    """In words, what of a house is in no part of a backup. One that a host has made alone needs its own part only."""
    there = {role for part in manifest.parts for role in part.roles}
    needed = () if manifest.alone else NEEDED
    lacking = [f"there is no part of a {role}" for role in needed if role not in there]
    return lacking + [f"{part.file} lacks {path}" for part in manifest.parts for path in missing(part)]


def parse_sums(text: str) -> dict[str, str]:
    """Path -> digest, of what `sha256sum` wrote. Raises ValueError when it is not understood."""
    found = {}
    for line in text.splitlines():
        form = re.fullmatch(r"([0-9a-f]{64})  ([^\\\n]+)", line)
        if form is None:
            raise ValueError(f"{SUMS} is not understood: {line!r}")
        found[form[2]] = form[1]
    return found
