"""Facts for the report: the versions on the hosts, the models and why they were chosen, the ends of certificates and
keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509

from plan.engine.stamp import parse_stamp
from plan.ollama.recorded_choice import chosen
from tests.verify.printed import certificate_end
from tests.verify.probing import Probing
from tests.verify.report import About, DateAbout, ModelAbout
from tests.verify.state import HostState

PREFIX = re.compile(r"/opt/private-ai/([a-z]+)-([^/]+)-[0-9a-f]{12}/")


def about(probing: Probing) -> About:
    """What the hosts say about themselves. Uses only answers that are there already."""
    states = {name: state for (name,), state in probing.state.answered().items()}
    return About(
        versions={name: versions(state) for name, state in states.items()},
        models=[model for name, state in states.items() for model in _models(name, state)],
        dates=[date for name, state in states.items() for date in _dates(probing, name, state)],
        # All commands to a host use one connection (tests/verify/inventory.py).
        connections=dict.fromkeys(probing.remote.commands, 1),
        commands=dict(probing.remote.commands),
    )


def versions(state: HostState) -> dict[str, str]:
    """Program -> version, and "deployed" -> date and revision. The target of a program's link has the version."""
    found = {"system": state.profile.os_pretty, "kernel": state.profile.kernel}
    found |= dict(PREFIX.findall(state["programs"].text))
    image = ((state["container"].json() or [{}])[0]).get("ImageName", "")
    stamp = parse_stamp(state.profile.stamp)
    if stamp:
        found["deployed"] = f"{stamp.when.astimezone(UTC):%Y-%m-%d %H:%M} UTC, revision {stamp.what.revision}"
    if image:
        found["openclaw"] = image.rpartition(":")[2].rpartition("-")[0]
    return found


def _models(name: str, state: HostState) -> Iterator[ModelAbout]:
    record = state["chosen"].json()
    if record:
        choice = chosen(record).choice
        yield ModelAbout(name, choice.entry.name, choice.context, choice.why)


def _dates(probing: Probing, name: str, state: HostState) -> Iterator[DateAbout]:
    if name == probing.house.coordinator.name and state["root"].status == 0:
        certificate = x509.load_pem_x509_certificate(state["root"].text.encode())
        yield _date("the house's root certificate", name, certificate.not_valid_after_utc)
    for service in ("headscale", "gateway"):
        end = certificate_end(state[f"certificate {service}"].text)
        if end:
            yield _date(f"certificate of {service}", name, end)
    expiry = ((state["tailscale"].json() or {}).get("Self") or {}).get("KeyExpiry")
    if expiry:
        yield _date("its key in the VPN", name, datetime.fromisoformat(expiry))


def _date(what: str, host: str, ends: datetime) -> DateAbout:
    return DateAbout(what, host, ends.date().isoformat(), (ends - datetime.now(UTC)).days)
