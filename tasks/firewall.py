"""Firewall: the access table as nftables rules. They are in force before any service of the house listens."""

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
    """Load the house's table now, and early at every boot. A new SSH connection confirms new rules."""
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
    """The text of the program that loads rules: at boot, when the unit is reloaded, and when new rules are tried."""
    return render(
        "firewall/private-ai-firewall.j2",
        table=TABLE,
        tracking=TRACKING,
        accounts=" ".join(ACCOUNTS),
        know=static("firewall/know-connections.py"),
    )


def service() -> Unit:
    """The unit that loads the table."""
    # A reload replaces the table in one step. A restart would remove it first. If somebody has flushed the table or has
    # added rules, `in_force` differs, and the table is loaded again.
    return Unit(
        "private-ai-firewall.service",
        inputs=(RULES, UNIT, LOADER),
        in_force=f"nft --stateless list table inet {TABLE}",
        reload=True,
    )
