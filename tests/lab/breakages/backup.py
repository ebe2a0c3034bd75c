"""Breakages of backups: what a host makes by itself, and what it may not have."""

from __future__ import annotations

from plan.backup.places import KEPT, SERVICE, TIMER, WORK
from plan.backup.schedule import ON
from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round

#: Has the host make a backup now, and goes into its folder.
NEWEST = f"systemctl start {SERVICE}; cd {KEPT}/{ON}$(hostname)/house-*Z"

BREAKAGES = (
    Breakage(
        "backup.timer-stopped",
        "coordinator",
        "A host does not make backups by itself any more.",
        f"systemctl stop {TIMER}",
        (Caught("backup.kept[HOST]", f"{TIMER} is not active"),),
        (),
        ("Backup | Timer",),
        topologies=("single", "split"),
        sample=Round("split", 1),
    ),
    Breakage(
        "backup.not-encrypted",
        "gateway",
        "The newest backup that a host keeps is not encrypted.",
        f"{NEWEST}; printf 'a tar archive' > host-$(hostname).age",
        (Caught("backup.kept[HOST]", "is not encrypted with age"),),
        by_hand=Repair(
            "A deployment touches no backup. A person removes it, and looks for who has changed it.",
            f"rm -r {KEPT}/{ON}$(hostname); systemctl start {SERVICE}",
        ),
        topologies=("single", "split"),
    ),
    Breakage(
        "backup.left-open",
        "coordinator",
        "What a backup was made of is left on the host, and not encrypted.",
        f"mkdir -p {WORK}/plain/files/ca; cp /var/lib/private-ai/ca/ca.key {WORK}/plain/files/ca",
        (Caught("backup.kept[HOST]", "is left, and not encrypted"),),
        (),
        ("Backup | Programs, folder",),
    ),
    Breakage(
        "backup.private-key-on-host",
        "gateway",
        "A private key with which backups can be read is on a host.",
        "printf 'AGE-SECRET-KEY-1%s\\n' GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX > /root/backup.key; "
        "chmod 0600 /root/backup.key",
        (Caught("backup.kept[HOST]", "/root/backup.key has a private key for backups"),),
        by_hand=Repair(
            "A deployment removes no file of a person. Whoever was on this host may have read the key, so another pair "
            "is needed as well.",
            "rm /root/backup.key",
        ),
    ),
)
