"""Firewall: the access table as nftables rules, in force before anything listens."""

from __future__ import annotations

from urllib.parse import urlsplit

from operations.firewall import firewall
from plan.firewall import TABLE, Apt, ruleset
from plan.want import Component, Directory, File, Unit
from tasks.render import render
from tasks.this import This

RULES = "/etc/private-ai/firewall.nft"
UNIT = "/etc/systemd/system/private-ai-firewall.service"


def deploy(this: This) -> None:
    """Load our own table now and early at every boot; a new SSH connection confirms it."""
    proxies = tuple(
        (parts.hostname, parts.port or 80) for url in this.profile.apt_proxies if (parts := urlsplit(url)).hostname
    )
    wanted = Component(
        directories=(Directory("/etc/private-ai"),),
        files=(
            File(
                RULES,
                ruleset(this.house, this.member, Apt(proxies)),
                mode="0600",
                check="nft --check --file {}",
                shown=True,
            ),
            File(UNIT, render("firewall/private-ai-firewall.service.j2", rules=RULES, table=TABLE)),
        ),
        units=(service(),),
    )
    firewall(name="Firewall | Rules of the access table", want=lambda: wanted, rules=RULES, table=TABLE)


def service() -> Unit:
    """The table as a unit."""
    # Reloading replaces the table in one step; a restart would take it away in between. A table that somebody
    # flushed or added to is loaded again.
    return Unit(
        "private-ai-firewall.service",
        inputs=(RULES, UNIT),
        in_force=f"nft --stateless list table inet {TABLE}",
        reload=True,
    )
