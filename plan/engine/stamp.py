"""The stamp that a deployment leaves on each host: what was deployed, and when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from plan.house.inventory import HostEntry
from plan.house.settings import SETTINGS

#: The file on every host. Every account may read it.
PATH = "/var/lib/private-ai/deployed.json"
#: The revision when git cannot tell it.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Deployed:
    """`revision`: git commit, with "+" when files were changed after it. `settings`: their digest. `programs`: name ->
    version, for the programs of the host and for pyinfra. `host`: the host's name in the inventory; "" in a stamp of an
    older version of this project."""

    revision: str
    settings: str
    programs: Mapping[str, str]
    host: str = ""


@dataclass(frozen=True)
class Stamp:
    """`when`: the time of the last run that changed something on the host. Writing this stamp counts too."""

    what: Deployed
    when: datetime

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps({**asdict(self.what), "when": self.when.isoformat(timespec="seconds")}, indent=2) + "\n"


def parse_stamp(text: str) -> Stamp | None:
    """The stamp from a file's content. None when there is none, or when it cannot be read; then a run replaces it."""
    try:
        raw = json.loads(text)
        programs = {str(name): str(version) for name, version in raw["programs"].items()}
        when = datetime.fromisoformat(raw["when"])
        if when.tzinfo is None:
            return None
        return Stamp(Deployed(str(raw["revision"]), str(raw["settings"]), programs, str(raw.get("host", ""))), when)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_revision(status: str) -> str:
    """The revision from the output of `git status --porcelain=v2 --branch`: the commit, with "+" when the output lists
    changed files; UNKNOWN without a commit."""
    lines = status.splitlines()
    commit = next((line.split()[-1][:12] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit.startswith("("):
        return UNKNOWN
    return f"{commit}+" if any(not line.startswith("#") for line in lines) else commit


def settings_digest(entries: Sequence[HostEntry]) -> str:
    """One digest of all that the inventory and group data say about a house: 12 hexadecimal digits.

    It covers hosts, groups, addresses, and settings that differ from their default. So the digest stays the same when
    somebody writes a default down, or when this project gets a new setting. What only pyinfra reads (users, keys,
    passwords) is not in it.
    """
    hosts = {
        entry.name: {
            "groups": sorted(entry.groups),
            "addresses": entry.data.get("lan_addresses") or [entry.data.get("ssh_hostname") or entry.name],
            "settings": {
                name: entry.data[name]
                for name, default in SETTINGS.items()
                if name != "lan_addresses" and entry.data.get(name, default) != default
            },
        }
        for entry in entries
    }
    return hashlib.sha256(json.dumps(hosts, sort_keys=True, default=str).encode()).hexdigest()[:12]
