"""The stamp that a deployment leaves on each host: what was deployed, and when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from plan.house.inventory import HostEntry
from plan.house.settings import SETTINGS

#: On every host, for everybody to read.
PATH = "/var/lib/private-ai/deployed.json"
#: Where no git says which revision of the repository this is.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Deployed:
    """`revision`: git commit, with "+" when files were changed after it. `settings`: their digest. `programs`: name ->
    version, of those that the host has, and of pyinfra. `host`: its name in the inventory, "" for an old one."""

    revision: str
    settings: str
    programs: Mapping[str, str]
    host: str = ""


@dataclass(frozen=True)
class Stamp:
    """`when`: of the last run that changed anything on the host, this stamp included."""

    what: Deployed
    when: datetime

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps({**asdict(self.what), "when": self.when.isoformat(timespec="seconds")}, indent=2) + "\n"


def parse_stamp(text: str) -> Stamp | None:
    """The stamp in a file's content; None for none, and for one that is not understood, which a run replaces."""
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
    """What `git status --porcelain=v2 --branch` says: the commit, with "+" when it lists something; or UNKNOWN."""
    lines = status.splitlines()
    commit = next((line.split()[-1][:12] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit.startswith("("):
        return UNKNOWN
    return f"{commit}+" if any(not line.startswith("#") for line in lines) else commit


def settings_digest(entries: Sequence[HostEntry]) -> str:
    """One digest over all that an inventory and group data decide about a house: 12 hexadecimal digits.

    Over hosts, groups, addresses and settings that are not at their default: neither a default that is written down
    nor a new setting that nobody uses makes another digest. What pyinfra reads (users, keys, passwords) is not in it.
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
