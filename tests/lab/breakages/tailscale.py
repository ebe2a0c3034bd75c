"""Breakages of the membership in the VPN, on every host."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import edit, until

DEFAULTS = "/etc/default/tailscaled"
SERVICE = ("Tailscale | Program, service",)
JOIN = ("Tailscale | Join the house",)
JOINED = Caught("tailscale.joined[HOST]")
RUNNING = until("tailscale status --peers=false >/dev/null 2>&1")
RESTART = f"systemctl restart tailscaled; {RUNNING}; sleep 5"
#: Checks that may fail too if a client is not in the VPN.
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
        "WireGuard uses a port that is not in the access table, so no direct connection to this node is possible.",
        edit(DEFAULTS, 's/^PORT=.*/PORT="51820"/') + f"; {RESTART}",
        (Caught("host.listeners[HOST]", "41641"),),
        ("vpn.wireguard[*]", "vpn.granted[*]"),
        SERVICE,
    ),
    Breakage(
        "tailscale.state-readable",
        "client",
        "Every account that can enter its folder can read the node's private key.",
        "chmod 0644 /var/lib/tailscale/tailscaled.state",
        (Caught("host.secret_files[HOST]", "tailscaled.state"),),
        by_hand=Repair(
            "The file is Tailscale's own, in a folder that only root can enter. A person who has read it can pretend "
            "to be this node; then run `tailscale logout` and a deployment, so that the host joins again.",
            "chmod 0600 /var/lib/tailscale/tailscaled.state",
        ),
    ),
    Breakage(
        "tailscale.program-changed",
        "client",
        "Somebody has changed the file of a program.",
        "printf changed >> /opt/private-ai/tailscale-*/bin/tailscale",
        (Caught("host.programs[HOST]", "holds something else"),),
        (),
        SERVICE,
        by_hand=Repair(
            "A run only looks whether the folder is there: its name says what is in it, and only the verification "
            "reads the files. A folder that is missing is sent again.",
            "systemctl stop tailscaled; rm -r /opt/private-ai/tailscale-*",
        ),
    ),
    Breakage(
        "tailscale.no-names",
        "client",
        "A client does not use the names of the VPN.",
        "tailscale set --accept-dns=false; sleep 2",
        (Caught("vpn.names[HOST]"), Caught("message.answered[HOST]")),
        (JOINED.check, "vpn.granted[HOST-*]", "message.*[HOST]"),
        JOIN,
        sample=Round("single", 2),
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
