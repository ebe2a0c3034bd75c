"""Checks of one message from a client through the VPN, OpenClaw and Ollama, and of what the model server logs about
it."""

from __future__ import annotations

from plan.house.house import Member
from tests.verify.ledger import Check, Way
from tests.verify.message import QUESTION
from tests.verify.printed import Account
from tests.verify.probing import Probing

LOGS = "journalctl --user --machine=openclaw@ --unit=openclaw"


def test_answered(client: Member, probing: Probing, check: Check) -> None:
    """A message from a client gets an answer: through WireGuard, over HTTPS with a certificate that the client trusts.

    All parts may look ready while messages do not get through.
    """
    gateway, seen = probing.house.gateway_of(client.user), probing.message(client.name)
    good = seen.status == 200 and bool(seen.content.strip()) and seen.usage.get("completion_tokens", 0) > 0
    check(
        good,
        source=f"{client.name} (VPN)",
        target=gateway.name,
        expected=f"{QUESTION!r} is answered within {seen.limit} s over HTTPS, and its certificate is trusted",
        observed=f"status {seen.status}, {seen.seconds:.1f} s, {seen.usage or 'no usage'}: "
        f"{seen.content or seen.error or seen.said[:300]!r}",
        remedy=f"on {gateway.name}: {LOGS}; then look which of the other checks fails first",
        ways=[Way(f"{gateway.name}/openclaw", good, True)],
    )


def test_model(client: Member, probing: Probing, check: Check) -> None:
    """The answer came from the house's own model: its log has the same numbers of tokens as the reply.

    Without this check, the answer could come from another server.
    """
    seen = probing.message(client.name)
    claimed = Account(seen.usage.get("prompt_tokens", 0), seen.usage.get("completion_tokens", 0))
    check(
        claimed in seen.logged,
        source=f"{client.name} (VPN)",
        target=" ".join(member.name for member in probing.house.with_role("model_hosts")),
        expected=f"the model server's log has a prompt of {claimed.prompt} tokens and {claimed.generated} generated "
        "tokens, like the reply",
        observed=", ".join(f"{each.prompt} and {each.generated}" for each in seen.logged) or "no prompt in the log",
        remedy="journalctl --unit=ollama on the model host; another model server may have answered",
    )
