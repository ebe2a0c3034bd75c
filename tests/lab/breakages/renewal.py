"""Breakages of the renewal: hosts renew the certificates of their own services without a person."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Round

BREAKAGES = (
    Breakage(
        "renewal.timer-stopped",
        "coordinator",
        "The coordinator does not renew its certificates any more.",
        "systemctl disable --now --quiet private-ai-renew.timer",
        (Caught("host.units[HOST]", "private-ai-renew.timer is inactive and disabled"),),
        (),
        ("Renewal | Program, timer",),
    ),
    Breakage(
        "renewal.no-successor",
        "gateway",
        "A gateway without an authority has used its successor: after the end of its certificate it would have none.",
        "rm /etc/openclaw/tls/next/cert.pem",
        (Caught("ca.renewal[GATEWAY-gateway]", "it has no successor"),),
        (),
        ("OpenClaw | Certificate",),
        topologies=("split",),
        sample=Round("split", 1),
    ),
)
