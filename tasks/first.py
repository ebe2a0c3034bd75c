"""What hosts are asked in any case, whatever is to be deployed to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pyinfra.api import FactBase

from facts.certificate import CaCertificate, CaKeyAccess
from facts.have import ComponentState
from facts.headscale import Headscale
from facts.ollama import ModelStores
from facts.profile import HostProfile
from facts.tailscale import Tailscale
from facts.together import Question, question
from plan.openclaw import WHO


def at_first(roles: Collection[str]) -> list[Question]:
    """What a host with these roles is asked before it is known what is wanted there."""
    facts: list[type[FactBase[Any]]] = [HostProfile, Tailscale]
    if "coordinator" in roles:
        facts += [CaCertificate, CaKeyAccess, Headscale]
    if "model_hosts" in roles:
        facts.append(ModelStores)
    questions = [question(fact, {}) for fact in facts]
    return [*questions, question(ComponentState, {"component": WHO})] if "gateway" in roles else questions
