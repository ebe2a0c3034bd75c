"""Sends one message from a client, and reads the answer and the logs of the model servers."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plan.house.house import House
from plan.openclaw import time_limits
from tests.verify.printed import Account, accounts
from tests.verify.remote import ProbeError, Remote
from tests.verify.state import curl_config

QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Message:
    """A message and its answer. `usage`: tokens, from the reply. `logged`: prompts that the model servers have logged
    since the message was sent. `limit`: the most seconds that the client waited."""

    status: int
    said: str
    error: str
    seconds: float
    content: str
    usage: Mapping[str, int]
    logged: tuple[Account, ...]
    limit: int


def message_limit(listed: Iterable[object]) -> int:
    """The most seconds that a message may take. `listed`: each model server's list of models (JSON), None without an
    answer. Loading a model takes minutes, but a server that does not list its models will not answer a message either.
    """
    return time_limits.FIRST_ANSWER if all(isinstance(each, dict) for each in listed) else time_limits.SILENT_SERVER


def send(remote: Remote, house: House, client: str, limit: int) -> Message:
    """Sends QUESTION from a client, as any program of a person would, and waits at most `limit` seconds.

    Raises ProbeError."""
    gateway = house.gateway_of(house.member(client).user)
    token = remote.run(gateway.name, "cat /etc/openclaw/token").stdout.strip()
    if not token:
        raise ProbeError(f"{gateway.name}: /etc/openclaw/token is empty\nnext: run the deployment again")
    servers = [member.name for member in house.with_role("model_hosts")]
    marks = {name: journal_mark(remote, name) for name in servers}
    body = {"model": "openclaw/default", "messages": [{"role": "user", "content": QUESTION}]}
    config = curl_config(
        [
            ("url", f"https://{house.vpn_name(gateway)}:{house.port('openclaw')}/v1/chat/completions"),
            ("header", f"Authorization: Bearer {token}"),
            ("header", "Content-Type: application/json"),
            ("data", json.dumps(body)),
            ("noproxy", "*"),
            ("connect-timeout", str(time_limits.CONNECT)),
            ("max-time", str(limit)),
            ("write-out", "\n%{http_code}"),
        ]
    )
    begun = time.monotonic()
    # Like any program of a person: it needs no privileges, and trusts the certificates of the system.
    said = remote.run(client, "curl --disable --silent --show-error --config -", config, limit + 30)
    seconds = time.monotonic() - begun
    text, _, code = said.stdout.rpartition("\n")
    try:
        reply = json.loads(text)
        content = str(reply["choices"][0]["message"]["content"] or "")
        usage = {name: int(value) for name, value in reply["usage"].items() if isinstance(value, int)}
    except (ValueError, KeyError, IndexError, TypeError):
        content, usage = "", {}
    logged = tuple(each for name in servers for each in logged_since(remote, name, marks[name])) if usage else ()
    return Message(int(code or 0), text, said.stderr.strip(), seconds, content, usage, logged, limit)


def journal_mark(remote: Remote, host: str) -> str:
    """The present end of the model server's journal, as a cursor."""
    said = remote.run(host, "journalctl --unit=ollama --lines=0 --show-cursor --quiet --no-pager")
    return said.stdout.rpartition("-- cursor: ")[2].strip()


def logged_since(remote: Remote, host: str, mark: str) -> list[Account]:
    """The prompts in the journal since `mark`. Tries several times, because the last lines may come after the
    answer."""
    command = f"journalctl --unit=ollama --output=cat --no-pager --after-cursor={shlex.quote(mark)}"
    for _ in range(6):
        found = accounts(remote.run(host, command).stdout)
        if found:
            return found
        time.sleep(0.5)
    return []
