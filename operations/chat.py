"""Send a message from a client's own process to the gateway, and show the answer."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Generator

import click
from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.remote import RemoteError, run_on

#: A first message on a slow machine reads OpenClaw's whole system prompt before the first word.
ANSWER_SECONDS = 900


@operation()
def ask(message: str, gateway: str, url: str, token: str) -> Generator[FunctionCommand, None, None]:
    """Owns nothing. curl on this host sends `message` to `url`, with the system's certificates; the answer is printed.

    The token is read from the file `token` on the host `gateway` and goes to curl over standard input.
    """
    if not message.strip():
        host.noop("an empty message")
        return
    yield FunctionCommand(_ask, (message, inventory.get_host(gateway), url, token), {})


def _ask(state: State, host: Host, message: str, gateway: Host, url: str, token: str) -> bool:
    asked = {"model": "openclaw/default", "messages": [{"role": "user", "content": message}]}
    script = (
        f"curl --silent --show-error --config - --max-time {ANSWER_SECONDS} "
        f"--header 'Content-Type: application/json' --data {shlex.quote(json.dumps(asked))} {shlex.quote(url)}"
    )
    host.log(f"asking {url}; the first answer after a start takes half a minute on a small machine")
    begun = time.monotonic()
    try:
        secret = run_on(gateway, f"cat {shlex.quote(token)}").strip()
        said = run_on(host, script, stdin=f'header = "Authorization: Bearer {secret}"')
        answer = json.loads(said)
        text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
    except RemoteError as error:
        logger.error(f"{host.print_prefix}no answer: {error}")
        return False
    except (ValueError, KeyError, IndexError, TypeError):
        logger.error(f"{host.print_prefix}no answer; the gateway said: {said[:500]}")
        return False
    seconds = time.monotonic() - begun
    tokens = f"{usage['prompt_tokens']} tokens read, {usage['completion_tokens']} written"
    click.echo(f"\n    {host.name} asked:  {message}\n    answer: {text}\n    ({seconds:.1f} s, {tokens})\n", err=True)
    return True
