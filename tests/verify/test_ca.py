"""Checks of the house's certificates: for which names they are, who trusts them, how long they are valid."""

from __future__ import annotations

import ipaddress
import time
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from facts.ca import RENEW_DAYS
from plan.health import CERTIFICATE_WARN_DAYS
from plan.house.house import House, Member
from plan.renewal import SERVICE
from tests.verify.ledger import Check
from tests.verify.printed import certificate_end
from tests.verify.probing import Probing

#: Every run renews a certificate long before that. Fewer than this: no run has come for a long time.
FEWEST_DAYS = CERTIFICATE_WARN_DAYS
#: Every device has the root certificate, so people need time to bring a new one to each.
FEWEST_ROOT_DAYS = 180


def test_root(member: Member, probing: Probing, check: Check) -> None:
    """Each host trusts the house's root certificate, which is valid for the house's names and for no others.

    So even somebody who has the CA's key cannot pretend to be a bank.
    """
    state = probing.state(member.name)
    ours = probing.authority()
    try:
        certificate = x509.load_pem_x509_certificate(state["root"].text.encode())
        claims = root_claims(certificate, probing.house)
        days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
        print_ = certificate.fingerprint(hashes.SHA256()).hex()[:16]
        claims |= {
            "the same on every host": state["root"].text == ours,
            "in the system's store": state["trusted"].status == 0,
            f"{FEWEST_ROOT_DAYS} days left": days >= FEWEST_ROOT_DAYS,
        }
        seen = f"SHA-256 {print_}..., {days} days left"
    except ValueError as error:
        claims, seen = {"a root certificate": False}, str(error)
    untrue = [claim for claim, holds in claims.items() if not holds]
    check(
        not untrue,
        source=member.name,
        target="CA",
        expected=", ".join(claims),
        observed=(f"not true: {', '.join(untrue)}; " if untrue else "") + seen,
        remedy="run the deployment again: it puts the coordinator's root certificate into every host's store",
    )


def root_claims(certificate: x509.Certificate, house: House) -> dict[str, bool]:
    """The conditions for a root certificate: only for the house's names and the VPN's addresses (RFC 5280,
    4.2.1.10)."""
    extensions = certificate.extensions
    names = {"DNS": {house.domain}, "IP": {ipaddress.ip_network(house.vpn_v4), ipaddress.ip_network(house.vpn_v6)}}
    basic = constraint = None
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        constraint = extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        pass
    permitted = list(constraint.value.permitted_subtrees or ()) if constraint else []
    return {
        "a CA that signs no other CAs": basic is not None
        and basic.critical
        and (basic.value.ca, basic.value.path_length) == (True, 0),
        f"for names below {house.domain} and addresses of the VPN only": constraint is not None
        and constraint.critical
        and {each.value for each in permitted if isinstance(each, x509.DNSName)} == names["DNS"]
        and {each.value for each in permitted if isinstance(each, x509.IPAddress)} == names["IP"],
    }


def test_server(server: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A server has a certificate from the house's CA, for the name that devices use, and valid for some days more."""
    member, service = server
    seen = probing.state(member.name)[f"certificate {service}"].text
    days = days_left(seen)
    check(
        "Verify return code: 0 (ok)" in seen and days is not None and days >= FEWEST_DAYS,
        source=member.name,
        target="itself",
        expected=f"{service}'s certificate: chain to the house's CA, right name, {FEWEST_DAYS} days left",
        observed=("no certificate" if days is None else f"{days} days left") + f"; {' / '.join(seen.splitlines())}",
        remedy="run the deployment again: it makes a new certificate if this one does not fit or ends too soon",
    )


def test_renewal(server: tuple[Member, str], probing: Probing, check: Check) -> None:
    """A server has a certificate for years without a run: more than half of its life is left. If its host has no
    authority, it has a successor that begins before the certificate ends."""
    member, service = server
    seen = probing.state(member.name)[f"renewal {service}"].text
    more = "" if "coordinator" in member.roles else ", with a successor signed in advance"
    check(
        seen == "good",
        source=member.name,
        target="itself",
        expected=f"{service}'s certificate: more than {RENEW_DAYS} days left{more}",
        observed=seen,
        remedy=f"run the deployment again: it makes new ones; on {member.name}: systemctl status {SERVICE}",
    )


def days_left(shown: str) -> int | None:
    """Whole days until a certificate ends, from openssl's output (-enddate); None when there is no certificate."""
    end = certificate_end(shown)
    return int((end.timestamp() - time.time()) // 86400) if end else None
