"""An enrolment for the tests, with a CA that the deployment's own command has made."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

from facts.ca import CA_FOLDER
from operations.ca import authority as ca
from plan.devices.declared import Kind
from plan.devices.enrolment_page import Enrolment

KINDS: tuple[Kind, ...] = get_args(Kind)
KEY = "hskey-auth-1a2b3c4d5e6f-" + "0123456789abcde-" * 4
TOKEN = "9f" * 32
UI = "https://gate.vpn.house.internal:18789/"
CONTROL = "https://headscale.house.internal:443"


def make_ca(folder: Path) -> str:
    """A CA's certificate, made in `folder` by the deployment's own command."""
    script = ca.authority_script("Private AI house CA", ("DNS:house.internal",))
    subprocess.run(["sh", "-c", script.replace(CA_FOLDER, str(folder))], check=True, capture_output=True)
    return (folder / "ca.crt").read_text()


def enrolment(kind: Kind, ca_pem: str, **other: Any) -> Enrolment:
    """The enrolment of Anna's phone. `other` replaces single values."""
    values: dict[str, Any] = {
        "device": "anna-phone",
        "owner": "anna",
        "house": "house",
        "control_url": CONTROL,
        "control_addresses": ("10.77.0.11", "fd4c:4142:77::11"),
        "key": KEY,
        "key_ends": datetime(2026, 11, 3, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "ui_url": UI,
        "token": TOKEN,
        "too_new": "1.106",
    }
    return Enrolment(kind=kind, ca_pem=ca_pem, **{**values, **other})
