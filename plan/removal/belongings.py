"""What the house has on a host, part by part: all that a deployment puts there, by name.

tests/unit/test_removal.py compares this with what a deployment wants, so nothing that is deployed can be missing here.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass

from plan.backup.places import DONE as BACKED_UP
from plan.backup.places import KEPT, KEPT_AT, PROGRAM_SETTINGS, STAGE
from plan.backup.places import PROGRAM as BACKUP_PROGRAM
from plan.backup.places import SERVICE as BACKUP_SERVICE
from plan.backup.places import TIMER as BACKUP_TIMER
from plan.backup.places import WORK as BACKUP
from plan.backup.restoring import RESTORED
from plan.engine.claims import CLAIMED, CLAIMS, PACKAGE, UNITS, Claim
from plan.engine.stamp import PATH as STAMP
from plan.engine.upload_folder import INCOMING
from plan.firewall.rules import LOADER, RULES, TAKEN_BACK, TRIED, UNCONFIRMED
from plan.health import FOLDER as HEALTH
from plan.health import SERVICE as HEALTH_SERVICE
from plan.health import TIMER as HEALTH_TIMER
from plan.house.house import Member
from plan.openclaw.configuration import IMAGE_RECORD
from plan.renewal import PROGRAM as RENEW
from plan.renewal import SERVICE as RENEW_SERVICE
from plan.renewal import TIMER as RENEW_TIMER
from plan.upgrade.notes import FOLDER as UPGRADES
from plan.upgrade.notes import at_boot
from plan.upgrade.versions import PROGRAMS as VERSIONED

#: The house's own folders, which hold other people's files too, such as a health hook: only what is named here goes,
#: and the folder itself when nothing is left in it.
SETTINGS, STATE, PROGRAMS = "/etc/private-ai", "/var/lib/private-ai", "/opt/private-ai"
STAMPS = f"{STATE}/stamps"
#: A program's folder below PROGRAMS: its name, version and the digest of its content.
PROGRAM_FOLDER = r"{name}-[^/]+-[0-9a-f]{{12}}"
#: What the firewall's unit, loader and rules are. They go last.
FIREWALL_UNIT = "private-ai-firewall.service"


@dataclass(frozen=True)
class Data:
    """What people may want to keep: it stays unless they say otherwise. `of` is the account whose it is."""

    path: str
    what: str
    of: str = ""


@dataclass(frozen=True)
class Part:
    """What one component has on the hosts of a role, or on "all". `claim` is its claim, "" where the names are the
    house's own. `folders` go with all that is in them but `data`; files may be links."""

    name: str
    role: str
    claim: str = ""
    units: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    data: tuple[Data, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """The places that the house has noted as taken for it."""
        return next((claim.places for claim in CLAIMS if claim.name == self.claim), ())

    @property
    def all_files(self) -> tuple[str, ...]:
        """Files with those of units, their stamps, and what a run that was cut off leaves beside them."""
        units = tuple(f"{UNITS}/{unit}" for unit in self.units)
        return (*units, *(f"{STAMPS}/{unit}" for unit in self.units), *self.files)

    def is_there(self, claimed: Collection[str]) -> bool:
        """Whether a host that has `claimed` these places may have something of it."""
        return not self.claim or bool(set(self.places) & set(claimed))


PARTS = (
    Part(
        "OpenClaw",
        "gateway",
        "OpenClaw",
        files=(
            "/etc/systemd/user/openclaw-warm.service",
            "/etc/systemd/user/openclaw-warm.timer",
            # Units of the account have stamps as well.
            f"{STAMPS}/openclaw.service",
            f"{STAMPS}/openclaw-warm.timer",
            IMAGE_RECORD,
        ),
        folders=("/etc/openclaw", "/var/lib/openclaw", f"{UPGRADES}/openclaw"),
        accounts=("openclaw",),
        data=(Data("/var/lib/openclaw/state", "conversations, approved browsers", "openclaw"),),
    ),
    Part(
        "Ollama",
        "model_hosts",
        "Ollama",
        units=("ollama-vpn.socket", "ollama-vpn.service", "ollama.service"),
        files=("/usr/local/bin/ollama", f"{SETTINGS}/model.json"),
        folders=("/var/lib/ollama", f"{UPGRADES}/ollama"),
        accounts=("ollama", "ollama-vpn"),
        programs=("ollama",),
        data=(Data("/var/lib/ollama/models", "models", "ollama"),),
    ),
    Part(
        "Headscale",
        "coordinator",
        "Headscale",
        units=("headscale.service",),
        files=("/usr/local/bin/headscale",),
        folders=("/etc/headscale", "/var/lib/headscale", f"{UPGRADES}/headscale"),
        accounts=("headscale",),
        programs=("headscale",),
        data=(Data("/var/lib/headscale", "users, nodes and keys of the control server", "headscale"),),
    ),
    Part(
        "Authority",
        "coordinator",
        data=(
            Data(f"{STATE}/ca", "the house's authority with its key"),
            Data(f"{STATE}/devices.json", "the record of devices"),
        ),
    ),
    Part(
        "Tailscale",
        "all",
        "Tailscale",
        units=("tailscaled.service",),
        files=("/etc/default/tailscaled", "/usr/local/bin/tailscale", "/usr/local/sbin/tailscaled"),
        folders=("/var/lib/tailscale", "/var/cache/tailscale", f"{UPGRADES}/tailscale"),
        programs=("tailscale",),
    ),
    Part(
        "Base, CA, health",
        "all",
        units=(
            BACKUP_TIMER,
            BACKUP_SERVICE,
            RENEW_TIMER,
            RENEW_SERVICE,
            HEALTH_TIMER,
            HEALTH_SERVICE,
            "private-ai-names.path",
            "private-ai-names.service",
        ),
        files=(
            f"{UNITS}/private-ai-health-notify@.service",
            "/usr/local/sbin/private-ai-health",
            "/usr/local/sbin/private-ai-names",
            RENEW,
            BACKED_UP,
            KEPT_AT,
            BACKUP_PROGRAM,
            PROGRAM_SETTINGS,
            RESTORED,
            # systemd notes here when the timer has elapsed, so that a host that was off makes up for it.
            *(f"/var/lib/systemd/timers/stamp-{timer}" for timer in (BACKUP_TIMER, RENEW_TIMER)),
            # Of an upgrade that is cut off.
            *(f"{UNITS}/{link}{at_boot(name)}" for name in VERSIONED for link in ("", "multi-user.target.wants/")),
        ),
        folders=(HEALTH, INCOMING, BACKUP, STAGE, UPGRADES),
        data=(Data(KEPT, "encrypted backups that the host has made"),),
    ),
    Part(
        "Firewall",
        "all",
        units=(FIREWALL_UNIT,),
        files=(RULES, TRIED, LOADER, UNCONFIRMED, TAKEN_BACK, f"{STATE}/firewall.before", STAMP, CLAIMED),
        folders=(STAMPS,),
    ),
)
#: Its files are what the rest is removed with, and the host's notes: they go last.
LAST = PARTS[-1]
#: Folders of the house that go when nothing is left in them, inner ones first.
EMPTY_AT_LAST = (SETTINGS, STATE, PROGRAMS)


def parts_of(roles: Collection[str]) -> tuple[Part, ...]:
    """The parts of these roles alone, in the order in which they go."""
    return tuple(part for part in PARTS if part.role in roles)


def claims_left_over(roles: Collection[str], claimed: Collection[str]) -> tuple[Claim, ...]:
    """What a host that `claimed` these places has of roles that it has not, apart from data that was kept."""
    kept = {data.path for part in PARTS for data in part.data}
    kept |= {path.rpartition("/")[0] for path in kept}
    return tuple(
        claim
        for claim in CLAIMS
        if claim.role != "all" and claim.role not in roles and (set(claim.places) - kept) & set(claimed)
    )


def left_over(member: Member, claimed: Collection[str], inventory: str) -> list[str]:
    """Warnings about what goes on running on a host though the inventory does not give it the role any more."""
    return [
        f"host {member.name}: {claim.name} is still there and goes on running, though the inventory does not give the "
        f"host the role {claim.role} any more. To remove it: "
        f"{command(inventory, f'role={claim.role}', f'on={member.name}')}"
        for claim in claims_left_over(member.roles, claimed)
    ]


def command(inventory: str, *data: str) -> str:
    """The command that removes something, for people to copy."""
    return " ".join(
        (
            "pyinfra",
            shlex.quote(inventory or "inventory.py"),
            "playbooks/remove.py",
            *(f"--data {each}" for each in data),
        )
    )


def packages_of(claimed: Collection[str]) -> tuple[str, ...]:
    """The Debian packages that the house has installed on a host, as far as the host has noted it."""
    return tuple(sorted(line.removeprefix(PACKAGE) for line in claimed if line.startswith(PACKAGE)))
