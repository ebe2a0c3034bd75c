"""The machine's limit on inotify instances: 128 per user, and every systemd of every host counts as root's.

A lab takes 30 to 60 of them, so the third lab's hosts would fail to boot. Raised while a lab is up, put back by the
last one to go.
"""

from __future__ import annotations

from pathlib import Path

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 2048
# Under /run: after a restart of the machine the limit is the machine's own again.
BEFORE = Path("/run/private-ai-lab.inotify")


def raise_limit() -> None:
    """Make room for many hosts, and note the machine's own value."""
    found = int(LIMIT.read_text())
    if found < ENOUGH:
        BEFORE.write_text(str(found))
        LIMIT.write_text(str(ENOUGH))


def restore_limit() -> None:
    """Put the machine's own value back, unless somebody else has set another meanwhile."""
    if BEFORE.exists():
        if int(LIMIT.read_text()) == ENOUGH:
            LIMIT.write_text(BEFORE.read_text())
        BEFORE.unlink()
