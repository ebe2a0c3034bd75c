"""Where backups, and what is needed for them, lie on hosts."""

from __future__ import annotations

#: Where a host makes its part, for root alone. Nothing that is not encrypted stays in it.
WORK = "/var/lib/private-ai/backup"
ENCRYPTED = f"{WORK}/part.age"
#: Where OpenClaw makes its own archive, and where its container sees that folder. Its /tmp is memory, and small.
ARCHIVES, INSIDE = "/var/lib/openclaw/backup", "/home/node/backup"
#: On coordinator and gateways: when the host was last part of a whole backup, in seconds since 1970.
DONE = "/var/lib/private-ai/backed-up"
