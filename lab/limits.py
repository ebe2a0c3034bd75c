"""The machine's limit on inotify instances: 128 for each user. Those of all hosts count for root.

A lab takes 30 to 60 of them, so the hosts of a third lab would fail to boot. The limit is raised while a lab is up. The
last lab that is taken down restores it.
"""

from __future__ import annotations

from pathlib import Path

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 2048
# In /run, because after a restart the machine has its own limit again.
BEFORE = Path("/run/private-ai-lab.inotify")


def raise_limit() -> None:
    """Raise the limit, and note the machine's own value."""
    found = int(LIMIT.read_text())
    if found < ENOUGH:
        BEFORE.write_text(str(found))
        LIMIT.write_text(str(ENOUGH))


def restore_limit() -> None:
    """Restore the machine's own value, unless somebody else has set another value meanwhile."""
    if BEFORE.exists():
        if int(LIMIT.read_text()) == ENOUGH:
            LIMIT.write_text(BEFORE.read_text())
        BEFORE.unlink()
