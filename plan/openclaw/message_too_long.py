"""A message without an answer, because the text or the time was too long: how that is known, and what people are told.

The gateway answers with status 500 and `internal error`; the numbers stand in what it logs of Ollama's refusal.
"""

from __future__ import annotations

import re

from plan.openclaw import time_limits

#: Ollama 0.32's words, as OpenClaw 2026.9.6 logs them.
REFUSAL = "request ([0-9]* tokens) exceeds the available context size ([0-9]* tokens)"
_NUMBERS = re.compile(r"request \((\d{1,12}) tokens\) exceeds the available context size \((\d{1,12}) tokens\)")


def journal_script(session: str) -> str:
    """A script for the gateway that prints Ollama's refusals of one conversation, and nothing else of the journal."""
    return (
        "journalctl _SYSTEMD_USER_UNIT=openclaw.service --since=-2hours --output=cat --no-pager | "
        f"grep -F 'sessionKey={session} ' | grep -o '{REFUSAL}' || :"
    )


def too_long(refusals: str) -> str | None:
    """What a person is told, from the output of `journal_script`; None when it holds no refusal."""
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
    """What a person is told whose message failed after so many seconds; None when that was within the model's limit."""
    if seconds < time_limits.MODEL:
        return None
    return (
        f"the model did not end its answer within {time_limits.MODEL} s, which is its limit. Next: see on the model "
        "host with journalctl -u ollama how far it got; send a shorter text, or name a smaller ollama_model and run "
        "the deployment"
    )
