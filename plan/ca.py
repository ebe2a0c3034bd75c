"""The house's certificate authority: whether it is still that of this domain and name, and when successors begin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from plan.base.profile import Profile
from plan.engine.errors import SettingError
from plan.house.house import House

#: A successor begins so many days before the end of the certificate that it follows. A host that has no authority puts
#: it into its place when fewer than SWAP_DAYS are left.
OVERLAP_DAYS = 60
SWAP_DAYS = 30
NEXT = "set it back. A deployed house cannot have another one, see docs/ca.md"


def authority_name(house: House) -> str:
    """The name that people see for a house's authority."""
    return f"Private AI {house.name} CA"


def begins_anew(house: House, authority: str, others: Mapping[str, Profile]) -> str | None:
    """The warning when the coordinator has no authority (PEM, "" for none) and hosts of the house have been deployed:
    their coordinator was lost. `others`: hosts of this run, by name. A stamp says that a deployment has ended there."""
    known = sorted(name for name, seen in others.items() if name != house.coordinator.name and seen.stamp)
    if authority or not known:
        return None
    return (
        f"{house.coordinator.name} has no authority, and {', '.join(known)} belonged to a house. This run begins a new "
        "house: every device and browser has to join again. If you have a backup, end this run before it changes "
        "anything, and restore it first: docs/restore.md"
    )


def name_of(authority: str) -> str:
    """The name of an authority (PEM); "" for one that cannot be read."""
    try:
        subject = x509.load_pem_x509_certificate(authority.encode()).subject
    except ValueError:
        return ""
    return " ".join(str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def next_name(house: House, authority: str) -> str:
    """The name of the authority that follows this one (PEM): it has the next number."""
    first = authority_name(house)
    number = name_of(authority).removeprefix(first).strip()
    return f"{first} {int(number) + 1 if number.isdecimal() else 2}"


def half_over(authority: str, now: datetime) -> bool:
    """Whether half of the life of the authority's certificate (PEM) is over. False for one that cannot be read: the
    step that uses it reports that."""
    try:
        certificate = x509.load_pem_x509_certificate(authority.encode())
    except ValueError:
        return False
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now > certificate.not_valid_before_utc + life / 2


def other_house(house: House, authority: str) -> SettingError | None:
    """The error when the authority (PEM, "" for none) was made for another domain or name; else None.

    Also None for a certificate that cannot be read: the step that uses the certificate reports that.
    """
    try:
        certificate = x509.load_pem_x509_certificate(authority.encode())
        permitted = certificate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except (ValueError, x509.ExtensionNotFound):
        return None
    domains = [str(each.value) for each in permitted if isinstance(each, x509.DNSName)]
    if domains and house.domain not in domains:
        return SettingError(
            "group_data/all.py: house_domain",
            house.domain,
            f"{', '.join(domains)}, for which the house's authority on {house.coordinator.name} was made",
            NEXT,
        )
    name = name_of(authority)
    number = name.removeprefix(f"{authority_name(house)} ")
    if name and name != authority_name(house) and not number.isdecimal():
        return SettingError(
            "group_data/all.py: house_name",
            house.name,
            f"the name for which the house's authority {name!r} on {house.coordinator.name} was made",
            NEXT,
        )
    return None
