"""Membership of the VPN, on every host."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair
from tests.lab.breakages.shell import edit, until

DEFAULTS = "/etc/default/tailscaled"
SERVICE = ("Tailscale | Program, service",)
JOIN = ("Tailscale | Join the house",)
JOINED = Caught("tailscale.joined[HOST]")
RUNNING = until("tailscale status --peers=false >/dev/null 2>&1")
RESTART = f"systemctl restart tailscaled; {RUNNING}; sleep 5"
#: What is true as well when a client is not in the VPN.
CLIENT_AWAY = (
    "host.programs[HOST]",
    "headscale.nodes[*]",
    "headscale.policy*",
    "vpn.*",
    "message.*[HOST]",
    "tailscale.*[HOST]",
)
SERVER_AWAY = (
    *CLIENT_AWAY,
    "message.*",
    "host.services[HOST]",
    "host.listeners[HOST]",
    "container.closed[GATEWAY-vpn-*]",
)

BREAKAGES = (
    Breakage(
        "tailscale.logged-out",
        "client",
        "A client has left the VPN.",
        "tailscale logout; sleep 3",
        (JOINED, Caught("vpn.granted[HOST-GATEWAY]"), Caught("vpn.names[HOST]"), Caught("message.answered[HOST]")),
        CLIENT_AWAY,
        JOIN,
    ),
    Breakage(
        "tailscale.down",
        "gateway",
        "A server has switched the VPN off.",
        "tailscale down --accept-risk=all; sleep 3",
        (JOINED, Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        SERVER_AWAY,
        JOIN,
    ),
    Breakage(
        "tailscale.stopped",
        "client",
        "The VPN's service does not run on a client.",
        "systemctl stop tailscaled",
        (JOINED, Caught("host.units[HOST]", "tailscaled"), Caught("vpn.granted[HOST-GATEWAY]")),
        (*CLIENT_AWAY, "host.listeners[HOST]", "host.services[HOST]"),
        SERVICE,
    ),
    Breakage(
        "tailscale.masked",
        "gateway",
        "The VPN's service is stopped and masked on a server.",
        "systemctl stop tailscaled; ln -sfn /dev/null /etc/systemd/system/tailscaled.service; systemctl daemon-reload",
        (JOINED, Caught("host.units[HOST]", "tailscaled"), Caught("vpn.granted[CLIENT-HOST]")),
        (*SERVER_AWAY, "container.ollama[HOST]"),
        SERVICE,
        topologies=("split",),
    ),
    Breakage(
        "tailscale.updates-itself",
        "client",
        "Tailscale may replace itself by a newer version from the internet.",
        "tailscale set --auto-update=true",
        (Caught(JOINED.check, "to be set: .*--auto-update=false"),),
        (),
        JOIN,
    ),
    Breakage(
        "tailscale.ssh-server",
        "gateway",
        "Tailscale's own SSH server is on.",
        "tailscale set --ssh=true --accept-risk=all; sleep 2",
        (Caught(JOINED.check, "to be set: .*--ssh=false"),),
        (),
        JOIN,
    ),
    Breakage(
        "tailscale.exit-node",
        "gateway",
        "A server offers to pass other nodes' traffic on to the internet.",
        "tailscale set --advertise-exit-node=true --accept-risk=all; sleep 2",
        (Caught(JOINED.check, "to be set: .*--advertise-exit-node=false"),),
        (),
        JOIN,
    ),
    Breakage(
        "tailscale.shields-up",
        "gateway",
        "The gateway refuses every connection from the VPN.",
        "tailscale set --shields-up=true; sleep 2",
        (Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        (JOINED.check, "headscale.policy*", "message.*", "vpn.*"),
        JOIN,
    ),
    Breakage(
        "tailscale.logs-on",
        "client",
        "Tailscale sends its logs to its maker.",
        edit(DEFAULTS, 's/^FLAGS=.*/FLAGS=""/', "/^TS_NO_LOGS/d") + f"; {RESTART}",
        (Caught(JOINED.check, "no logs sent"),),
        (),
        SERVICE,
    ),
    Breakage(
        "tailscale.other-port",
        "client",
        "WireGuard uses a port that the table does not have, so no direct path leads to this node.",
        edit(DEFAULTS, 's/^PORT=.*/PORT="51820"/') + f"; {RESTART}",
        (Caught("host.listeners[HOST]", "41641"),),
        ("vpn.wireguard[*]", "vpn.granted[*]"),
        SERVICE,
    ),
    Breakage(
        "tailscale.state-readable",
        "client",
        "The node's private key can be read by every account that gets into its folder.",
        "chmod 0644 /var/lib/tailscale/tailscaled.state",
        (Caught("host.secret_files[HOST]", "tailscaled.state"),),
        by_hand=Repair(
            "The file is Tailscale's own, in a folder that only root enters; who read it can pose as this node, so it "
            "is joined anew with `tailscale logout` and a deployment.",
            "chmod 0600 /var/lib/tailscale/tailscaled.state",
        ),
    ),
    Breakage(
        "tailscale.program-changed",
        "client",
        "A program was changed in its place.",
        "printf changed >> /opt/private-ai/tailscale-*/bin/tailscale",
        (Caught("host.programs[HOST]", "holds something else"),),
        (),
        SERVICE,
        by_hand=Repair(
            "A run looks whether the folder is there: it is named for its content, and reading it all takes the "
            "verification. A folder that is gone is laid down again.",
            "systemctl stop tailscaled; rm -r /opt/private-ai/tailscale-*",
        ),
    ),
    Breakage(
        "tailscale.no-names",
        "client",
        "A client does not use the VPN's names.",
        "tailscale set --accept-dns=false; sleep 2",
        (Caught("vpn.names[HOST]"), Caught("message.answered[HOST]")),
        (JOINED.check, "vpn.granted[HOST-*]", "message.*[HOST]"),
        JOIN,
        sample="single",
    ),
    Breakage(
        "tailscale.serves",
        "model_host",
        "Tailscale itself passes a port of the VPN on to the model server, past the host's firewall.",
        "tailscale serve --bg --tcp 8443 tcp://127.0.0.1:11434 >/dev/null",
        (Caught("tailscale.joined[HOST]", "tailscale serve"),),
        ("vpn.closed[*-HOST]",),
        JOIN,
    ),
)
