"""The time limits of a message: each is shorter than the next outer one, and each program gets its own."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from operations.openclaw.send_message import ask_script
from plan.ollama.catalogue import CATALOGUE
from plan.ollama.model_choice import choose
from plan.ollama.model_fit import Hardware
from plan.openclaw import time_limits
from plan.openclaw.configuration import ModelServer, openclaw_config
from tasks import openclaw
from tasks.engine.texts import render, static
from tests.unit import houses
from tests.verify.message import message_limit, send
from tests.verify.remote import Said

HARD_DISK_BYTES_A_SECOND = 100e6
#: Pairs of an inner and an outer time limit. The outer one must be longer. Otherwise an attempt is given up although it
#: would succeed, and the next one begins from the start.
NESTED = (
    (time_limits.LOAD, time_limits.TOKEN),
    (time_limits.LOAD, time_limits.MODEL),
    (time_limits.MODEL + time_limits.COMPACTION, time_limits.RUN),
    # OpenClaw tries a second time.
    (2 * time_limits.MODEL, time_limits.RUN),
    (time_limits.RUN, time_limits.ANSWER),
    (time_limits.MODEL, time_limits.FIRST_ANSWER),
    (time_limits.STARTED, time_limits.START),
    (time_limits.STARTED + time_limits.FIRST_ANSWER + 3 * time_limits.SESSION, time_limits.FIRST_MESSAGE),
)


def configuration() -> dict[str, Any]:
    house = houses.single()
    choice = choose(Hardware(ram_gib=16, disk_free_gib=99), wanted_context=None, named=None, registry_reachable=True)
    return openclaw_config(house, house.member("home"), [ModelServer("ollama", "http://127.0.0.1:11434", choice)])


def test_an_outer_limit_is_longer_than_what_lies_within() -> None:
    assert [pair for pair in NESTED if pair[0] >= pair[1]] == []
    # A compaction uses the same model on the same host.
    assert time_limits.COMPACTION >= time_limits.MODEL


def test_the_largest_model_is_loaded_from_a_hard_disk() -> None:
    largest = max(entry.download_gib for entry in CATALOGUE) * 2**30
    assert largest / HARD_DISK_BYTES_A_SECOND < time_limits.LOAD


def test_the_gateway_waits_as_long_for_a_compaction_as_for_an_answer() -> None:
    made = configuration()
    defaults = made["agents"]["defaults"]
    assert made["models"]["providers"]["ollama"]["timeoutSeconds"] == time_limits.MODEL
    assert defaults["compaction"] == {"timeoutSeconds": time_limits.COMPACTION}
    assert defaults["timeoutSeconds"] == time_limits.RUN


def test_each_program_is_given_its_limit() -> None:
    unit = render("ollama/ollama.service.j2", port=1, context=8192, gpu=False, load_seconds=time_limits.LOAD)
    assert f"\nEnvironment=OLLAMA_LOAD_TIMEOUT={time_limits.LOAD}s\n" in unit
    assert f"--max-time {time_limits.ANSWER} " in ask_script(
        "https://home:18789/v1/chat/completions", "agent:main:openai:a"
    )
    service = openclaw.service(houses.single(), houses.single().member("home"), 990)
    assert service.ready_seconds == time_limits.STARTED


def test_the_verification_gives_a_cold_model_the_time_of_the_first_message() -> None:
    asked: list[tuple[str, float]] = []

    def run(name: str, script: str, stdin: str = "", seconds: float = 60) -> Said:
        asked.append((stdin, seconds))
        return Said(0, "a token" if name == "home" else "\n200", "")

    remote: Any = SimpleNamespace(run=run)
    send(remote, houses.single(), "laptop", message_limit([{"models": []}]))
    [(curl, seconds)] = [each for each in asked if each[0]]
    assert f'max-time = "{time_limits.FIRST_ANSWER}"' in curl
    assert f'connect-timeout = "{time_limits.CONNECT}"' in curl
    assert seconds > time_limits.FIRST_ANSWER


def test_nobody_waits_half_an_hour_for_a_model_server_that_is_silent() -> None:
    assert message_limit([{"models": []}, None]) == time_limits.SILENT_SERVER < 120
    assert message_limit([{"models": []}]) == time_limits.FIRST_ANSWER


def test_the_first_message_takes_its_limits_from_the_program_that_sends_it() -> None:
    sent = static("openclaw/first-message.mjs")
    [names] = re.findall(r"const \[(.*)\] = process\.argv\.slice\(2\)\.map\(Number\);", sent)
    assert names.split(", ") == ["READY_SECONDS", "ANSWER_SECONDS", "SESSION_SECONDS"]
    program = render(
        "openclaw/openclaw-warm.j2",
        host="127.0.0.1",
        address="127.0.0.1:11434",
        model="m",
        ready_seconds=1,
        answer_seconds=2,
        session_seconds=3,
    )
    assert "/etc/openclaw/first-message.mjs 1 2 3\n" in program
