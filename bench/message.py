"""Measures a message: how much time the gateway adds to the model's own time, how many tokens the model has to read for
a new conversation, and how much longer the first answer after a reboot takes than the second."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from bench.measure import Bench, BenchError, Figure, Row, ratio, told

GATEWAY, CLIENT = "home", "laptop"
#: A file that exists on the gateway's host from the gateway's own first message until its next start.
FIRST_SENT = "/run/user/$(id -u openclaw)/openclaw-warm"
#: The target: the number of tokens that we measured by hand before this benchmark existed.
EVALUATED_BY_HAND = 230
#: Makes each question different, because the model server keeps a prompt that it has read.
_numbers = count(1)
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|µs)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}


@dataclass(frozen=True)
class Answered:
    """One message. `seconds`: how long the client has waited. `model`: how long Ollama took for it, from its journal.
    `prompt`: tokens of the whole prompt. `evaluated`: how many of them the model had to read."""

    seconds: float
    model: float
    prompt: int
    evaluated: int


@dataclass(frozen=True)
class Answers:
    """Seconds: until the gateway has sent its own first message, and for a person's first and second answer."""

    ready: float
    first: float
    second: float


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """Measures new conversations from a client over the VPN, and the first ones after a reboot of the gateway's
    host."""
    bench.pyinfra(bench.inventory, "deploy.py")
    wait_for_first(bench)
    ask(bench)
    warm = []
    for number in range(runs):
        warm.append(ask(bench))
        told.print(f"{number + 1}/{runs} message: {warm[-1]}")
    rebooted = []
    for _ in range(runs):
        bench.run(sys.executable, "-m", "lab", "reboot", GATEWAY)
        rebooted.append(answers_after(bench))
    waited, model = (
        Figure(what, "s", tuple(getattr(each, name) for each in warm))
        for what, name in (("the client waits", "seconds"), ("of it for Ollama", "model"))
    )
    evaluated = Figure("new conversation", "tokens", tuple(float(each.evaluated) for each in warm))
    whole = Figure("its whole prompt", "tokens", tuple(float(each.prompt) for each in warm))
    return [
        ratio("gateway's cost per message", waited, model, 1.2),
        Row(
            "prompt tokens evaluated per new conversation", evaluated.median, "", EVALUATED_BY_HAND, (evaluated, whole)
        ),
        first_answers("a reboot", rebooted),
    ]


def answers_after(bench: Bench) -> Answers:
    """Measures the first two answers for a person, after the gateway's own first message."""
    begun = time.monotonic()
    wait_for_first(bench)
    found = Answers(time.monotonic() - begun, ask(bench).seconds, ask(bench).seconds)
    told.print(str(found))
    return found


def first_answers(after: str, found: Sequence[Answers]) -> Row:
    """A row: how much longer the first answer takes than the second, after the event `after`."""
    first, second, ready = (
        Figure(what, "s", tuple(getattr(each, name) for each in found))
        for what, name in (
            ("first", "first"),
            ("second", "second"),
            ("until the gateway has sent its own first message", "ready"),
        )
    )
    row = ratio(f"first answer after {after} against the second", first, second, 1.5)
    return replace(row, figures=(first, second, ready))


def wait_for_first(bench: Bench) -> None:
    """Waits until the gateway has sent its own first message after its start."""
    bench.ssh(GATEWAY, f"for i in $(seq 300); do test -s {FIRST_SENT} && exit; sleep 1; done; exit 1")


def ask(bench: Bench) -> Answered:
    """Sends one message from the client, in a new conversation."""
    token = bench.ssh(GATEWAY, "cat /etc/openclaw/token").strip()
    mark = bench.ssh(GATEWAY, "journalctl -u ollama -n 0 --show-cursor -q").rpartition("-- cursor: ")[2].strip()
    question = f"How much is {next(_numbers)} and {int(time.time()) % 100000}?"
    body = {"model": "openclaw/default", "messages": [{"role": "user", "content": question}]}
    config = {
        "url": "https://home.vpn.house.internal:18789/v1/chat/completions",
        "header": f"Authorization: Bearer {token}",
        "json": json.dumps(body),
        "write-out": "\\n%{http_code} %{time_total}",
        "max-time": "600",
    }
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items())
    said = bench.run("lab/ssh", CLIENT, "curl --silent --show-error --config -", input=text).stdout
    status, seconds = said.rsplit("\n", 1)[-1].split()
    if status != "200":
        raise BenchError(f"a message was answered with {said[-2000:]}")
    for _ in range(20):
        log = bench.ssh(GATEWAY, f"journalctl -u ollama -o cat -q --after-cursor={shlex.quote(mark)}")
        if found := answered(log):
            return Answered(float(seconds), *found)
        time.sleep(0.5)
    raise BenchError(f"Ollama's journal does not have the message:\n{log[-2000:]}")


def answered(log: str) -> tuple[float, int, int] | None:
    """One message in Ollama's journal: seconds, tokens of its prompt, and how many of them the model had to read.

    None when the journal does not have them yet. Raises BenchError when it has more than one message.
    """
    asked = re.findall(r"\[GIN\].*\| +200 \| +(\S+) \|.*\"/api/chat\"", log)
    prompts = re.findall(r"task\.n_tokens = (\d+)", log)
    read = re.findall(r"prompt eval time = .*?/\s*(\d+) tokens", log)
    if not (asked and prompts and read):
        return None
    if not len(asked) == len(prompts) == len(read) == 1:
        raise BenchError(f"Ollama's journal has other requests than the measured one:\n{log[-3000:]}")
    return _seconds(asked[0]), int(prompts[0]), int(read[0])


def _seconds(text: str) -> float:
    """The seconds of a duration as Go writes it: 1m2.5s."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
