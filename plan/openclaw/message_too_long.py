"""Messages that get no answer because the text or the answer took too long: how we notice it, and what we tell people.

The gateway itself only answers with status 500 and `internal error`. It logs Ollama's refusal, which has the numbers.
"""

from __future__ import annotations

import re

from plan.openclaw import time_limits

#: The text of Ollama 0.32, as OpenClaw 2026.9.6 logs it.
REFUSAL = "request ([0-9]* tokens) exceeds the available context size ([0-9]* tokens)"
_NUMBERS = re.compile(r"request \((\d{1,12}) tokens\) exceeds the available context size \((\d{1,12}) tokens\)")


def journal_script(session: str) -> str:
    """A script that the gateway's host runs. It prints Ollama's refusals in one conversation, and nothing else of the
    journal."""
    return (
        "journalctl _SYSTEMD_USER_UNIT=openclaw.service --since=-2hours --output=cat --no-pager | "
        f"grep -F 'sessionKey={session} ' | grep -o '{REFUSAL}' || :"
    )


def too_long(refusals: str) -> str | None:
    """The message for a person, made from the output of `journal_script`. None when that has no refusal."""
    found = _NUMBERS.findall(refusals)
    if not found:
        return None
    sent, fits = found[-1]
    return (
        f"the text is too long: with OpenClaw's own prompt it has {sent} tokens, and the model's context has {fits}. "
        "A token is about four letters of English, fewer in other languages. Next: send a shorter text, or set a "
        "larger ollama_context, or a model that can have one, in group_data/all.py and run the deployment "
        "(docs/model-choice.md)"
    )


def too_slow(seconds: float) -> str | None:
    """The message for a person whose message failed after `seconds`. None when the model's limit was not reached."""
    if seconds < time_limits.MODEL:
        return None
    return (
        f"the model did not end its answer within {time_limits.MODEL} s, which is its limit. Next: see on the model "
        "host with journalctl -u ollama how far it got; send a shorter text, or name a smaller ollama_model and run "
        "the deployment"
    )
