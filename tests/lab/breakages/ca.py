"""The house's certificate authority and the certificates of its servers."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import OPENCLAW_READY, RESTART_HEADSCALE, RESTART_OPENCLAW

CA = "/var/lib/private-ai/ca"
TRUSTED = "/usr/local/share/ca-certificates/private-ai-house.crt"
HEADSCALE, OPENCLAW = "/etc/headscale/tls", "/etc/openclaw/tls"
CONTROL, GATEWAY = "headscale.house.internal", "home.vpn.house.internal"

#: Nodes that cannot verify the control server keep their network map and try again.
CONTROL_UNTRUSTED = (
    "host.services[HOST]",
    "tailscale.joined[*]",
    "headscale.nodes[*]",
    "headscale.policy*",
    "tailscale.relay[*]",
    "ca.renewal[HOST-headscale]",
)
GATEWAY_UNTRUSTED = ("host.services[HOST]", "openclaw.*[HOST]", "ca.renewal[HOST-gateway]")
REPAIR_HEADSCALE = ("Headscale | Certificate", "Headscale | Configuration, policy, service")
REPAIR_OPENCLAW = ("OpenClaw | Certificate", "OpenClaw | Configuration, container")


def signed(folder: str, name: str, dates: str) -> str:
    """A command that makes a certificate of the house's CA for the existing key. The file keeps its owner and mode."""
    return (
        f"cd {folder}; printf 'subjectAltName=DNS:{name}\\nextendedKeyUsage=serverAuth\\n' > /run/extensions; "
        f"openssl req -new -key key.pem -subj /CN={name} | openssl x509 -req "
        f"-CA {CA}/ca.crt -CAkey {CA}/ca.key {dates} -extfile /run/extensions "
        f"2>/dev/null > /run/new.crt; cat /run/new.crt {CA}/ca.crt > cert.pem"
    )


def foreign(folder: str, name: str) -> str:
    """A command that makes a self-signed certificate for the existing key."""
    return (
        f"cd {folder}; openssl req -x509 -new -key key.pem -days 300 -subj /CN={name} "
        f"-addext subjectAltName=DNS:{name} > /run/new.crt; cat /run/new.crt > cert.pem"
    )


PAST = "-not_before 20250101000000Z -not_after 20260101000000Z"

BREAKAGES = (
    Breakage(
        "ca.headscale-expired",
        "coordinator",
        "The control server's certificate has expired.",
        f"{signed(HEADSCALE, CONTROL, PAST)}; {RESTART_HEADSCALE}",
        (
            Caught("ca.server[COORDINATOR-headscale]"),
            Caught("outside.services[HOST-IPv4]"),
            Caught("outside.services[HOST-IPv6]"),
        ),
        CONTROL_UNTRUSTED,
        REPAIR_HEADSCALE,
        sample=Round("single", 1),
    ),
    Breakage(
        "ca.headscale-foreign",
        "coordinator",
        "The house's CA did not sign the control server's certificate.",
        f"{foreign(HEADSCALE, CONTROL)}; {RESTART_HEADSCALE}",
        (
            Caught("ca.server[COORDINATOR-headscale]"),
            Caught("outside.services[HOST-IPv4]"),
            Caught("outside.services[HOST-IPv6]"),
        ),
        CONTROL_UNTRUSTED,
        REPAIR_HEADSCALE,
        topologies=("split",),
    ),
    Breakage(
        "ca.headscale-ends-soon",
        "coordinator",
        "The control server's certificate is valid for three more days only: no deployment has run for a long time.",
        f"{signed(HEADSCALE, CONTROL, '-days 3')}; {RESTART_HEADSCALE}",
        (
            Caught("ca.server[COORDINATOR-headscale]", r"\b[23] days"),
            Caught("ca.renewal[COORDINATOR-headscale]", "fewer than"),
        ),
        (),
        REPAIR_HEADSCALE,
    ),
    Breakage(
        "ca.gateway-other-name",
        "gateway",
        "The gateway's certificate is from the house's CA, but for another name.",
        f"{signed(OPENCLAW, 'other.vpn.house.internal', '-days 300')}; {RESTART_OPENCLAW}; {OPENCLAW_READY}",
        (Caught("ca.server[GATEWAY-gateway]"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        (*GATEWAY_UNTRUSTED, "message.*"),
        REPAIR_OPENCLAW,
    ),
    Breakage(
        "ca.key-readable",
        "coordinator",
        "Every account that can enter its folder can read the CA's key.",
        f"chmod 0644 {CA}/ca.key",
        (Caught("host.secret_files[HOST]", "ca.key"),),
        (),
        ("CA | Authority of the house",),
    ),
    Breakage(
        "ca.server-key-readable",
        "coordinator",
        "Every account that can enter its folder can read the control server's private key.",
        f"chmod 0644 {HEADSCALE}/key.pem",
        (Caught("host.secret_files[HOST]", "key.pem"),),
        ("ca.renewal[HOST-headscale]",),
        ("Headscale | Certificate",),
    ),
    Breakage(
        "ca.unconstrained",
        "coordinator",
        "The CA's certificate was made again with the same key but without its limits: it could sign for any name.",
        f"cp -p {CA}/ca.crt /root/ca.crt; openssl req -x509 -new -key {CA}/ca.key -days 3650 "
        f'-subj "/$(openssl x509 -in {CA}/ca.crt -noout -subject | sed "s/subject=//; s/ = /=/")" '
        f"-addext basicConstraints=critical,CA:TRUE -out /run/ca.crt; cat /run/ca.crt > {CA}/ca.crt; "
        f"cat /run/ca.crt > {TRUSTED}; update-ca-certificates >/dev/null 2>&1",
        (Caught("ca.root[HOST]", "for names below"),),
        ("ca.root[*]",),
        by_hand=Repair(
            "The deployment makes a CA once and never replaces it, because every device trusts it. A person restores "
            "it from a backup.",
            f"cat /root/ca.crt > {CA}/ca.crt; rm /root/ca.crt",
        ),
        repaired_by=("CA | Trust it",),
    ),
    Breakage(
        "ca.not-trusted",
        "client",
        "A client no longer trusts the house's CA.",
        f"rm {TRUSTED}; update-ca-certificates --fresh >/dev/null 2>&1",
        (Caught("ca.root[HOST]"), Caught("message.answered[HOST]", "certificate")),
        ("message.*", "vpn.granted[HOST-GATEWAY]", "tailscale.joined[HOST]"),
        ("CA | Trust it",),
    ),
    Breakage(
        "ca.store-stale",
        "client",
        "The file of the CA's certificate is there, but the system's store was made without it.",
        f"mv {TRUSTED} /run/root.crt; update-ca-certificates --fresh >/dev/null 2>&1; mv /run/root.crt {TRUSTED}",
        (Caught("ca.root[HOST]", "in the system's store"), Caught("message.answered[HOST]")),
        ("message.*", "vpn.granted[HOST-GATEWAY]", "tailscale.joined[HOST]"),
        ("CA | Trust it",),
    ),
    Breakage(
        "ca.foreign-root",
        "client",
        "A client has the certificate of another CA in the place of the house's own.",
        "openssl ecparam -name prime256v1 -genkey -noout -out /run/other.key; "
        f"openssl req -x509 -new -key /run/other.key -days 300 -subj '/CN=Private AI house CA' > {TRUSTED}; "
        "rm /run/other.key; update-ca-certificates --fresh >/dev/null 2>&1",
        (Caught("ca.root[HOST]"), Caught("message.answered[HOST]", "certificate")),
        ("message.*", "vpn.granted[HOST-GATEWAY]", "tailscale.joined[HOST]"),
        ("CA | Trust it",),
    ),
)
