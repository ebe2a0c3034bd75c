"""Hosts from which a removal keeps away."""

from __future__ import annotations

from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.house.house import House, Member
from plan.removal.leaving import Found
from plan.verification import is_vpn


def wrong_host(
    house: House, member: Member, found: Found, profile: Profile, authority: str, whole: bool
) -> list[SettingError]:
    """What keeps a removal from a host: it is another house's, or SSH comes through what is going to be removed.

    `authority` is the certificate of this house's authority, "" when there is none any more. `whole`: the VPN goes,
    too.
    """
    problems = []
    own = f"private-ai-{house.name}"
    others = [name for name in found.authorities if name not in (own, f"{own}.other")]
    foreign = found.authority and authority and found.authority.split() != authority.split()
    if foreign or (others and own not in found.authorities and found.claimed):
        problems.append(
            SettingError(
                f"host {member.name}",
                f"a host of another house (it trusts {', '.join(others) or 'another authority of this name'})",
                f"a host of the house {house.name}",
                "correct its address in the inventory, or remove it with the inventory of its own house",
            )
        )
    if whole and is_vpn(house, profile.ssh_client):
        problems.append(
            SettingError(
                f"host {member.name}: SSH",
                f"a connection from {profile.ssh_client}, through the VPN that is going to be removed",
                "one over the home network",
                f"set ssh_hostname of {member.name} to its address there ({', '.join(member.addresses)})",
            )
        )
    return problems
