"""How long each part of a message may take, in seconds, and which limit lies inside which.

Each outer limit is longer than its inner ones. So the innermost limit ends what takes too long, and the person gets its
reason. After MODEL, OpenClaw tries once more (it begins no further try later than 90 s after the first has failed). The
text that the model had written is lost. The prompt that it had read is kept, in blocks of 1024 tokens.
tests/unit/test_time_limits.py compares these limits.

The person's own program              ANSWER
  a message at the gateway            RUN
    older messages are summarised     COMPACTION     each request to the model for it
    the model's answer                MODEL          the whole request: load, read, write
      the model is loaded             LOAD

If the person's program disconnects earlier, the gateway cancels the request and Ollama stops at once.
"""

from __future__ import annotations

LOAD = 900
"""Ollama's OLLAMA_LOAD_TIMEOUT, 300 by default. A hard disk reads 100 MB a second, so the largest model of the
catalogue takes 810 s."""

TOKEN = LOAD + 60
"""How long the deployment waits for the model's first token."""

MODEL = 1800
"""A request of the gateway to Ollama, until the answer is complete. On a processor, a dense 14B model reads 16384
tokens in 820 s (20 a second) and writes its longest answer of 2048 tokens in 680 s (3 a second). A model server that
hangs blocks the gateway until RUN."""

COMPACTION = MODEL
"""OpenClaw's limit for each request of a compaction, 180 by default. The model reads most of a full context for it."""

RUN = COMPACTION + MODEL + 60
"""A message at the gateway: a compaction, then the answer."""

ANSWER = RUN + 60
"""How long the person's own program waits."""

CONNECT = 30
"""How long a program that sends a message tries to connect to the gateway. curl's own limit of two minutes would report
a broken connection later."""

STARTED = 240
"""The gateway's start, until it is ready. It takes about 20 s, and minutes on a slow or busy disk."""

START = STARTED + 60
"""systemd's limit for the start of the container."""

SESSION = 60
"""One call of a method of the gateway, by the program that sends the first message. It makes three."""

FIRST_ANSWER = MODEL + 60
"""The first message that the gateway sends by itself, and the message of the verification. Each is one request to the
model, which may have to be loaded first."""

UPGRADE_ANSWER = 600
"""The first message to a new version. A model that is loaded has to read the prompt, 2400 tokens: at 5 tokens a second
this takes 480 s. After this time the old version comes back."""

SILENT_SERVER = 60
"""The message of the verification when a model server does not even list its models. Then the answer would not come."""

FIRST_MESSAGE = STARTED + SESSION + FIRST_ANSWER + 2 * SESSION + 60
"""systemd's limit for the unit that sends the gateway's first message."""
