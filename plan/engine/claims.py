"""Claims: the paths and units that the house takes on a host, and the list of them that the host keeps.

A run takes a path once, when it finds the path free, and writes it to the list on the host. So whatever a later run
finds there belongs to the house, also after an interrupted run. Whatever the first run finds there belongs to somebody
else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

#: File on every host: the paths that a run found free and took, one on each line. The run writes this file before it
#: puts anything at these paths.
CLAIMED = "/var/lib/private-ai/claimed"

#: In CLAIMED, before the name of a Debian package that the house has installed. A removal lists them.
PACKAGE = "package "

#: The folder of the house's units, and the other folders in which systemd looks. Our unit would hide a unit of the same
#: name in one of the others.
UNITS = "/etc/systemd/system"
OTHER_UNITS = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


@dataclass(frozen=True)
class Claim:
    """What one program takes on the hosts of one role, or on all hosts (`role` is "all"). A folder is taken with all
    its content.

    `instead` tells the owner of another program of this kind what to do so that the run can go on.
    """

    name: str
    role: str
    instead: str
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """All paths at which the house puts files."""
        return (*self.folders, *self.files, *(f"{UNITS}/{unit}" for unit in self.units))

    @property
    def shadows(self) -> tuple[str, ...]:
        """Paths that must be free before: units that our units would hide, and drop-ins that would change our units."""
        elsewhere = (f"{folder}/{unit}" for folder in OTHER_UNITS for unit in self.units)
        return (*elsewhere, *(f"{folder}/{unit}.d" for folder in (UNITS, *OTHER_UNITS) for unit in self.units))

    def found(self, filled: Collection[str], claimed: Collection[str]) -> list[str]:
        """The paths that belong to somebody else. `filled`: paths that exist on the host. `claimed`: paths that the
        house has taken there."""
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
    """An account, from its line in /etc/passwd."""

    name: str
    number: int
    home: str
    shell: str


#: Service accounts of the house: name -> the role that needs the account, and the account's home.
ACCOUNTS = {
    "headscale": ("coordinator", "/var/lib/headscale"),
    "ollama": ("model_hosts", "/var/lib/ollama"),
    "ollama-vpn": ("model_hosts", "/nonexistent"),
    "openclaw": ("gateway", "/var/lib/openclaw"),
}
#: The lowest number of a person's account. Lower numbers are system accounts (Debian's login.defs, SYS_UID_MAX).
FIRST_PERSON = 1000


def claims_of(roles: Collection[str]) -> tuple[Claim, ...]:
    """The claims of a host with these roles."""
    return tuple(claim for claim in CLAIMS if claim.role == "all" or claim.role in roles)


def accounts_of(roles: Collection[str]) -> dict[str, str]:
    """The service accounts of a host with these roles: name -> home."""
    return {name: home for name, (role, home) in ACCOUNTS.items() if role in roles}


def claim_file(roles: Collection[str], before: Collection[str]) -> str:
    """The content of CLAIMED for a host with these roles. `before`: the paths that the file has now. They all stay in
    it."""
    places = {place for claim in claims_of(roles) for place in claim.places}
    return "".join(f"{place}\n" for place in sorted(places | set(before)))


def is_ours(login: Login) -> bool:
    """Whether an account with one of our names is as the deployment makes it: a system account without a login shell,
    and with the home in ACCOUNTS."""
    return (
        login.number < FIRST_PERSON
        and login.home == ACCOUNTS[login.name][1]
        and login.shell.rpartition("/")[2] in ("nologin", "false")
    )
