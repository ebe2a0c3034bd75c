"""Where backups, and what is needed for them, lie on hosts."""

from __future__ import annotations

#: Where a host makes its part, for root alone. Nothing that is not encrypted stays in it.
WORK = "/var/lib/private-ai/backup"
ENCRYPTED = f"{WORK}/part.age"
#: What is not encrypted, while a backup is made.
PLAIN = f"{WORK}/plain"
#: Where OpenClaw makes its own archive, and where its container sees that folder. Its /tmp is memory, and small.
ARCHIVES, INSIDE = "/var/lib/openclaw/backup", "/home/node/backup"
#: On coordinator and gateways: when the host was last part of a whole backup, in seconds since 1970.
DONE = "/var/lib/private-ai/backed-up"
#: Where a host keeps the backups that it makes by itself, unless the settings name a folder; and when it made the last.
KEPT, KEPT_AT = "/var/lib/private-ai/backups", "/var/lib/private-ai/kept"
#: The program that makes them, its settings, and its units.
PROGRAM, PROGRAM_SETTINGS = "/usr/local/sbin/private-ai-backup", "/etc/private-ai/backup.json"
SERVICE, TIMER = "private-ai-backup.service", "private-ai-backup.timer"
#: What a house cannot make again: Headscale's database and keys, OpenClaw's state and token.
HEADSCALE, HEADSCALE_KEYS = "/var/lib/headscale", ("noise_private.key", "derp_server_private.key")
STATE, TOKEN = "/var/lib/openclaw/state", "/etc/openclaw/token"
#: Where a restore gathers what it puts into these places, for root alone. It is removed at the end.
STAGE = "/var/lib/private-ai/restore"
