"""How long each part of a message may take, in seconds, and which limit lies within which.

Outer limits are longer than those within them, so that the innermost one ends what takes too long, and the person is
told its reason. After MODEL, OpenClaw tries once more (it begins no further try 90 s after the first has failed): what
the model had written is lost, what it had read is not, in blocks of 1024 tokens. Compared in
tests/unit/test_time_limits.py.

The person's own program              ANSWER
  a message at the gateway            RUN
    older messages are summarised     COMPACTION     each request to the model for it
    the model's answer                MODEL          the whole request: load, read, write
      the model is loaded             LOAD

Who leaves before ends the work: the gateway drops the request, and Ollama stops at once.
"""

from __future__ import annotations

LOAD = 900
"""Ollama's OLLAMA_LOAD_TIMEOUT, 300 by default. A hard disk gives 100 MB a second: the largest model of the catalogue
takes 810 s."""

TOKEN = LOAD + 60
"""The deployment waits as long for the model's first token."""

MODEL = 1800
"""A request of the gateway to Ollama, to its last word. Dense 14B on a processor reads 16384 tokens at 20 a second in
820 s and writes its longest answer, 2048 tokens at 3 a second, in 680 s. A model server that hangs holds the gateway up
until RUN."""

COMPACTION = MODEL
"""OpenClaw's limit for each request of a compaction, 180 by default. The model reads most of a full context for it."""

RUN = COMPACTION + MODEL + 60
"""A message at the gateway: a compaction, then the answer."""

ANSWER = RUN + 60
"""A person's own program."""

CONNECT = 30
"""A connection to the gateway, for whoever sends a message: a dead way is known sooner. curl by itself waits two
minutes."""

STARTED = 240
"""The gateway's start, until it is ready. Some 20 s; minutes on a disk that is slow or busy."""

START = STARTED + 60
"""systemd's limit for the start of the container."""

SESSION = 60
"""A call of OpenClaw's command line; two for a first message."""

FIRST_ANSWER = MODEL + 60
"""The gateway's own first message, and the one of the verification: one request to the model, which may be cold."""

FIRST_MESSAGE = STARTED + SESSION + FIRST_ANSWER + SESSION + 60
"""systemd's limit for sending it."""
