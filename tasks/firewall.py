"""Firewall: the access table as nftables rules, in force before anything listens."""

from __future__ import annotations

from operations.firewall import firewall
from plan.engine.claims import ACCOUNTS
from plan.engine.want import Component, Directory, File, Unit
from plan.firewall.package_sources import apt_of
from plan.firewall.rules import LOADER, RULES, TABLE, TRACKING, ruleset
from tasks.engine.hosts import This
from tasks.engine.texts import render, static

UNIT = "/etc/systemd/system/private-ai-firewall.service"


def deploy(this: This) -> None:
    """Load our own table now and early at every boot; a new SSH connection confirms it."""
    apt = apt_of(this.member.name, this.profile.apt_proxies, this.profile.apt_mirrors)
    wanted = Component(
        directories=(Directory("/etc/private-ai"),),
        files=(
            File(
                RULES,
                ruleset(this.house, this.member, apt),
                mode="0600",
                check="nft --check --file {}",
                shown=True,
            ),
            File(LOADER, loader(), mode="0755", check="sh -n {}"),
            File(UNIT, render("firewall/private-ai-firewall.service.j2", rules=RULES, table=TABLE, loader=LOADER)),
        ),
        units=(service(),),
    )
    firewall(
        name="Firewall | Rules of the access table",
        want=lambda: wanted,
        left_over=bool(
            this.profile.firewall_tried or this.profile.firewall_unconfirmed or this.profile.firewall_taken_back
        ),
    )


def loader() -> str:
    """The text of the program that loads rules: at boot, when the unit is reloaded, and while new ones are tried."""
    return render(
        "firewall/private-ai-firewall.j2",
        table=TABLE,
        tracking=TRACKING,
        accounts=" ".join(ACCOUNTS),
        know=static("firewall/know-connections.py"),
    )


def service() -> Unit:
    """The table as a unit."""
    # Reloading replaces the table in one step; a restart would take it away in between. A table that somebody
    # flushed or added to is loaded again.
    return Unit(
        "private-ai-firewall.service",
        inputs=(RULES, UNIT, LOADER),
        in_force=f"nft --stateless list table inet {TABLE}",
        reload=True,
    )
