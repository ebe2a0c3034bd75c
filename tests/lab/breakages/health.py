"""Breakages of the look: every host checks itself between runs."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Round

REPAIR = ("Health | Program, timer",)

BREAKAGES = (
    Breakage(
        "health.timer-stopped",
        "client",
        "A client does not check itself any more.",
        "systemctl stop private-ai-health.timer",
        (Caught("host.units[HOST]", "private-ai-health.timer is inactive"),),
        (),
        REPAIR,
        sample=Round("single", 1),
    ),
    Breakage(
        "health.not-at-boot",
        "coordinator",
        "A server checks itself now, but would not do so after the next boot.",
        "systemctl disable --quiet private-ai-health.timer",
        (Caught("host.units[HOST]", "private-ai-health.timer is active and disabled"),),
        (),
        REPAIR,
    ),
)
