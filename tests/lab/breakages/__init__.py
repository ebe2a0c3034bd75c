"""What is broken on purpose, by component. tests/lab/test_breakages.py runs it, docs/breakages.md lists it."""

from __future__ import annotations

from tests.lab.breakages import backup, base, ca, firewall, headscale, health, ollama, openclaw, renewal, tailscale
from tests.lab.breakages.breakage import Breakage

BREAKAGES: tuple[Breakage, ...] = (
    *base.BREAKAGES,
    *firewall.BREAKAGES,
    *ca.BREAKAGES,
    *headscale.BREAKAGES,
    *tailscale.BREAKAGES,
    *ollama.BREAKAGES,
    *openclaw.BREAKAGES,
    *backup.BREAKAGES,
    *renewal.BREAKAGES,
    *health.BREAKAGES,
)
