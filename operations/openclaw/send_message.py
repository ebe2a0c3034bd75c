"""Send a message from a process on a client to the gateway, and show the answer."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Generator

import click
from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.engine.run_on_host import RemoteError, run_on
from plan.engine.terminal_text import plain
from plan.openclaw import time_limits
from plan.openclaw.message_too_long import journal_script, too_long, too_slow


@operation()
def ask(message: str, gateway: str, url: str, token: str) -> Generator[FunctionCommand, None, None]:
    """Owns nothing. curl on this host sends `message` to `url`, and the answer is printed. curl trusts the certificates
    of the system.

    The token is read from the file `token` on the host `gateway`. curl gets token and message over standard input.
    """
    if not message.strip():
        host.noop("an empty message")
        return
    yield FunctionCommand(_ask, (message, inventory.get_host(gateway), url, token), {})


def _ask(state: State, host: Host, message: str, gateway: Host, url: str, token: str) -> bool:
    asked = {"model": "openclaw/default", "messages": [{"role": "user", "content": message}]}
    host.log(f"asking {url}; the first answer after a start takes half a minute on a small machine")
    # The name has the form that the gateway itself uses. With it, the gateway's journal shows what happened to the
    # message.
    session = f"agent:main:openai:{uuid.uuid4()}"
    begun = time.monotonic()
    try:
        secret = run_on(gateway, f"cat {shlex.quote(token)}").strip()
        said = run_on(host, ask_script(url, session), stdin=f"{secret}\n{json.dumps(asked)}")
        answer = json.loads(said)
        text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
    except RemoteError as error:
        logger.error(f"{host.print_prefix}no answer: {error}")
        return False
    except (ValueError, KeyError, IndexError, TypeError):
        known = _reason(gateway, session, time.monotonic() - begun)
        logger.error(f"{host.print_prefix}no answer; {known or f'the gateway said: {plain(said[:500])}'}")
        return False
    seconds = time.monotonic() - begun
    tokens = f"{usage['prompt_tokens']} tokens read, {usage['completion_tokens']} written"
    # `plain`, because a model can be made to write control characters for the terminal.
    exchange = plain(f"{host.name} asked:  {message}\n    answer: {text}")
    click.echo(f"\n    {exchange}\n    ({seconds:.1f} s, {tokens})\n", err=True)
    return True


def _reason(gateway: Host, session: str, seconds: float) -> str | None:
    """Why there was no answer after so many seconds, or None if that is not known. The gateway's reply does not say
    it."""
    try:
        return too_long(run_on(gateway, journal_script(session))) or too_slow(seconds)
    except RemoteError:
        return too_slow(seconds)


def ask_script(url: str, session: str) -> str:
    """A script that reads the token from the first line of standard input, and sends the rest. Neither is an argument:
    other accounts on the host could read arguments, and their length is limited."""
    return "\n".join(
        [
            "IFS= read -r token",
            f"curl --disable --silent --show-error --connect-timeout {time_limits.CONNECT} "
            f"--max-time {time_limits.ANSWER} "
            f"--header 'Content-Type: application/json' --header 'x-openclaw-session-key: {session}' "
            f"--header @/dev/fd/3 --data-binary @- {shlex.quote(url)} 3<<end",
            "Authorization: Bearer $token",
            "end",
        ]
    )
