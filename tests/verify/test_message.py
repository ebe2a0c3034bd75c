"""One message, from a client through the VPN, OpenClaw and Ollama, and what the model itself says of it."""

from __future__ import annotations

import pytest

from plan.house import Member
from plan.openclaw import ollama_host
from tests.verify.ledger import Check
from tests.verify.probing import ANSWER_SECONDS, QUESTION, Probing
from tests.verify.state import Account

LOGS = "journalctl --user --machine=openclaw@ --unit=openclaw"


def test_a_message_is_answered(client: Member, probing: Probing, check: Check) -> None:
    gateway, seen = probing.house.gateway, probing.message(client.name)
    check(
        seen.status == 200 and bool(seen.content.strip()) and seen.usage.get("completion_tokens", 0) > 0,
        source=client.name,
        target=gateway.name,
        expected=f"{QUESTION!r} is answered within {ANSWER_SECONDS} s over HTTPS with a trusted certificate",
        observed=f"status {seen.status}, {seen.seconds:.1f} s, {seen.usage or 'no usage'}: "
        f"{seen.content or seen.error or seen.said[:300]!r}",
        remedy=f"on {gateway.name}: {LOGS}; then see which of the checks below fails first",
        answered=[f"message ({seen.seconds:.1f} s)"] if seen.content else [],
    )


def test_the_model_itself_answered(client: Member, probing: Probing, check: Check) -> None:
    seen = probing.message(client.name)
    claimed = Account(seen.usage.get("prompt_tokens", 0), seen.usage.get("completion_tokens", 0))
    check(
        claimed in seen.logged,
        source=client.name,
        target=" ".join(member.name for member in probing.house.with_role("model_hosts")),
        expected=f"the model server's log tells of a prompt of {claimed.prompt} tokens and {claimed.generated} "
        "generated, as the reply does",
        observed=", ".join(f"{each.prompt} and {each.generated}" for each in seen.logged) or "no prompt in the log",
        remedy="journalctl --unit=ollama on the model host; another model server may have answered",
        answered=["tokens agree"] if claimed in seen.logged else [],
    )


def test_the_model_has_the_context_that_the_gateway_counts_on(
    model_host: Member, probing: Probing, check: Check
) -> None:
    house = probing.house
    clients = [member for member in house.with_role("clients") if member.name in probing.subject.scope]
    for client in clients[:1]:
        probing.message(client.name)  # brings the model into memory after a restart
    name = ollama_host(house, model_host)
    providers = [each for each in probing.container()["providers"] if f"//{name}:" in each["url"]]
    wanted = {each["model"]: each["context"] for each in providers}
    loaded = probing.loaded(model_host.name)
    if not loaded and not clients:
        pytest.skip("no model is in memory, and no client is probed whose message would bring it there")
    check(
        bool(wanted) and wanted.items() <= loaded.items(),
        source=probing.house.gateway.name,
        target=model_host.name,
        expected=f"in memory, with the context of openclaw.json: {wanted or 'a model of this host'}",
        observed=loaded or "no model in memory",
        remedy="run the deployment again: it sets one number in both places and loads the model",
    )
