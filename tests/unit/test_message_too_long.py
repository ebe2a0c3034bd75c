"""A text that is longer than the context: the message says how long it was, how much fits, and what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from operations.openclaw.send_message import ask
from plan.openclaw import time_limits
from plan.openclaw.message_too_long import journal_script, too_long, too_slow
from tests.unit.fakes import Fake, context

SESSION = "agent:main:openai:419a8e28-b9a5-4579-95e0-cf942c1251a8"
#: A line of the log of OpenClaw 2026.9.6, shortened.
RECORDED = (
    '{"time":"2026-11-28T13:13:12.048+00:00","level":"warn","subsystem":"agent/embedded","message":'
    f'"[context-overflow-diag] sessionKey={SESSION} provider=ollama/smollm2:135m source=assistantError '
    "trigger=overflow messages=2 compactionTokens=8193 providerPayloadBytes=53913 "
    'error=400 {\\"error\\":\\"{\\\\\\"error\\\\\\":{'
    '\\\\\\"code\\\\\\":400,\\\\\\"message\\\\\\":\\\\\\"request (11281 tokens) exceeds the available context size '
    '(8192 tokens), try increasing it"}\n'
)


def journal(tmp_path: Path, text: str) -> str:
    """The output of the script on a host whose journal contains `text`."""
    (tmp_path / "journal").write_text(text)
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/journal\n")
    program.chmod(0o755)
    script = f"PATH={tmp_path}:$PATH; {journal_script(SESSION)}"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_numbers_of_this_conversation_alone_are_read(tmp_path: Path) -> None:
    other = RECORDED.replace(SESSION, "agent:main:openai:other").replace("11281", "99999")
    found = journal(tmp_path, RECORDED + other + '{"message":"what the agent said to somebody"}\n')
    assert found == "request (11281 tokens) exceeds the available context size (8192 tokens)\n"


def test_a_person_is_told_what_was_sent_what_fits_and_what_to_do(tmp_path: Path) -> None:
    told = too_long(journal(tmp_path, RECORDED))
    assert told is not None
    for word in ("too long", "11281", "8192", "Next: send a shorter text", "ollama_context"):
        assert word in told


def test_another_reason_is_not_called_too_long(tmp_path: Path) -> None:
    assert journal(tmp_path, '{"message":"chat completion failed"}\n') == ""
    assert too_long("") is None
    assert too_long("request (many tokens) exceeds the available context size (8192 tokens)") is None


def test_a_model_that_was_too_slow_is_named() -> None:
    assert too_slow(time_limits.MODEL - 1) is None
    told = too_slow(time_limits.MODEL)
    assert told is not None and str(time_limits.MODEL) in told and "Next: " in told


def test_make_chat_asks_the_journal_for_its_own_conversation(caplog: pytest.LogCaptureFixture) -> None:
    refused = {
        "cat /token": "t\n",
        "curl": '{"error":{"message":"internal error","type":"api_error"}}',
        "journalctl": "request (11281 tokens) exceeds the available context size (8192 tokens)\n",
    }
    home = Fake("home", says=refused)
    with context(home, {"home": home}), pytest.raises(AssertionError):
        home.do(ask, message="long", gateway="home", url="https://home:18789/v1/chat/completions", token="/token")
    assert "no answer; the text is too long" in caplog.text and "11281" in caplog.text
    sent, read = home.commands[-2:]
    [session] = re.findall(r"x-openclaw-session-key: ([a-z0-9:-]+)'", sent)
    assert f"sessionKey={session} " in read
