"""What is known of each host of this run: its roles in the house, its profile, its node in the VPN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyinfra import host, inventory, state
from pyinfra.api import FactBase

from facts.base.profile import HostProfile
from facts.ca import CaCertificate, CaKeyAccess, CaOther
from facts.engine.ask_together import Question, question
from facts.engine.component_state import ComponentState
from facts.headscale import Headscale
from facts.ollama import ModelStores
from facts.tailscale import Tailscale, TailscaleState
from operations.engine import one_run
from operations.engine.answers import NotYet, ask, ask_together
from operations.engine.run import once_a_run
from plan.base.profile import Profile
from plan.house.house import House, Member
from plan.openclaw.configuration import WHO
from tasks.engine.house import the_house


@dataclass(frozen=True)
class This:
    """The host that is being deployed, its house and its profile."""

    house: House
    member: Member
    profile: Profile

    def has(self, role: str) -> bool:
        return role in self.member.roles


def this() -> This:
    """The current host, with its house and its profile."""
    house = the_house()
    return This(house, house.member(host.name), profile_of(host.name))


@once_a_run
def profile_of(name: str) -> Profile:
    """A host's profile, asked once per run, also if the host is outside --limit. All other questions that can be asked
    at the beginning are asked in the same command."""
    here = inventory.get_host(name)
    ask_together(here, _at_first(the_house().member(name)))
    profile = ask(here, HostProfile)
    one_run.seen(name, profile.last_run)
    return profile


def known_profiles() -> dict[str, Profile]:
    """Host name -> profile, of the hosts that were asked so far. When the last host of the run is checked, these are
    all hosts of the run."""
    return {str(name): profile for (name,), profile in profile_of.known.items()}


def vpn_of(member: Member) -> TailscaleState:
    """The state of Tailscale on a member that has joined the VPN. Raises NotYet if it has not joined."""
    seen = ask(inventory.get_host(member.name), Tailscale)
    if not seen.joined:
        raise NotYet(f"{member.name} has no VPN address before it has joined")
    return seen


def authority_seen(house: House) -> str:
    """The certificate (PEM) of the house's CA, "" for none.

    If the coordinator is in this run, the result is "" for all other hosts: the check of the coordinator is enough, and
    its answer is known already.
    """
    coordinator = inventory.get_host(house.coordinator.name)
    if host.name != coordinator.name and state.is_host_in_limit(coordinator):
        return ""
    return ask(coordinator, CaCertificate)


def _at_first(member: Member) -> list[Question]:
    facts: list[type[FactBase[Any]]] = [HostProfile, Tailscale]
    if "coordinator" in member.roles:
        facts += [CaCertificate, CaOther, CaKeyAccess, Headscale]
    if "model_hosts" in member.roles:
        facts.append(ModelStores)
    questions = [question(fact, {}) for fact in facts]
    return [*questions, question(ComponentState, {"component": WHO})] if "gateway" in member.roles else questions
