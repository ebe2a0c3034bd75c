"""The places that the house takes for itself on a host, and how a host remembers that they are the house's.

A place is taken once, when a run has found it free, and the host keeps the list. So what a later run finds there is the
house's own, also when a run was interrupted half way; and what the first run finds there is somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

#: On every host: the places that were found free and taken, one a line. Written before any of them is filled.
CLAIMED = "/var/lib/private-ai/claimed"

#: Where the house's units lie, and where else systemd looks: a unit of the same name there would be shadowed by ours.
UNITS = "/etc/systemd/system"
OTHER_UNITS = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


@dataclass(frozen=True)
class Claim:
    """What one program takes on the hosts of a role, or on "all". `folders` are taken with all that is in them.

    `instead` says what the owner of such a program does so that the run can go on.
    """

    name: str
    role: str
    instead: str
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """What the house fills."""
        return (*self.folders, *self.files, *(f"{UNITS}/{unit}" for unit in self.units))

    @property
    def shadows(self) -> tuple[str, ...]:
        """What must not be there before: units whose place ours would take, and drop-ins that would change ours."""
        elsewhere = (f"{folder}/{unit}" for folder in OTHER_UNITS for unit in self.units)
        return (*elsewhere, *(f"{folder}/{unit}.d" for folder in (UNITS, *OTHER_UNITS) for unit in self.units))

    def found(self, filled: Collection[str], claimed: Collection[str]) -> list[str]:
        """What of it is somebody else's, on a host where `filled` is there and `claimed` was taken by the house."""
        there = [place for place in self.places if place in filled and place not in claimed]
        if not set(self.places) <= set(claimed):
            there += [place for place in self.shadows if place in filled]
        return there


CLAIMS = (
    Claim(
        "Tailscale",
        "all",
        "a host has one Tailscale, and the house brings its own. To keep this one, take the host out of the inventory. "
        "To give the host to the house, on it: tailscale logout; apt purge tailscale; rm -rf /var/lib/tailscale",
        folders=("/var/lib/tailscale",),
        files=("/etc/default/tailscaled", "/usr/local/bin/tailscale", "/usr/local/sbin/tailscaled"),
        units=("tailscaled.service",),
    ),
    Claim(
        "Headscale",
        "coordinator",
        "to keep it, give the role coordinator to another host. Else stop it, remove its package, and move its folders "
        "away: mv /var/lib/headscale /var/lib/headscale.before, likewise /etc/headscale",
        folders=("/etc/headscale", "/var/lib/headscale"),
        files=("/usr/local/bin/headscale",),
        units=("headscale.service",),
    ),
    Claim(
        "Ollama",
        "model_hosts",
        "to keep it, give the role model_hosts to another host. To hand it over: systemctl disable --now ollama; "
        "rm -r /etc/systemd/system/ollama.service* /usr/local/bin/ollama /usr/local/lib/ollama; chown -R root: "
        "/usr/share/ollama. Its models stay there, and those that the house needs are not downloaded again",
        folders=("/var/lib/ollama",),
        files=("/usr/local/bin/ollama",),
        units=("ollama.service", "ollama-vpn.socket", "ollama-vpn.service"),
    ),
    Claim(
        "OpenClaw",
        "gateway",
        "to keep it, give the role gateway to another host. Else stop it and move its folders away: "
        "mv /var/lib/openclaw /var/lib/openclaw.before, likewise /etc/openclaw",
        folders=("/etc/openclaw", "/var/lib/openclaw"),
        files=("/etc/systemd/user/openclaw-warm.service", "/etc/systemd/user/openclaw-warm.timer"),
    ),
)


@dataclass(frozen=True)
class Login:
    """An account as /etc/passwd has it."""

    name: str
    number: int
    home: str
    shell: str


#: Service accounts of the house: name -> the role that needs it, and its home.
ACCOUNTS = {
    "headscale": ("coordinator", "/var/lib/headscale"),
    "ollama": ("model_hosts", "/var/lib/ollama"),
    "ollama-vpn": ("model_hosts", "/nonexistent"),
    "openclaw": ("gateway", "/var/lib/openclaw"),
}
#: Below it are system accounts (Debian's login.defs, SYS_UID_MAX).
FIRST_PERSON = 1000


def claims_of(roles: Collection[str]) -> tuple[Claim, ...]:
    """The claims of a host with these roles."""
    return tuple(claim for claim in CLAIMS if claim.role == "all" or claim.role in roles)


def accounts_of(roles: Collection[str]) -> dict[str, str]:
    """Account -> its home, for a host with these roles."""
    return {name: home for name, (role, home) in ACCOUNTS.items() if role in roles}


def claim_file(roles: Collection[str], before: Collection[str]) -> str:
    """The content of CLAIMED for a host with these roles, which had claimed `before`. It only grows."""
    places = {place for claim in claims_of(roles) for place in claim.places}
    return "".join(f"{place}\n" for place in sorted(places | set(before)))


def is_ours(login: Login) -> bool:
    """Whether an account with one of our names is what the deployment would make: no login, and our home."""
    return (
        login.number < FIRST_PERSON
        and login.home == ACCOUNTS[login.name][1]
        and login.shell.rpartition("/")[2] in ("nologin", "false")
    )
