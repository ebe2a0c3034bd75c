"""Breakages of the nftables rules on every host."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import edit

TABLE = "inet private_ai"
RULES = "/etc/private-ai/firewall.nft"
REPAIR = ("Firewall | Rules of the access table",)
DIFFERENT = Caught("firewall.rules[HOST]")
V4, V6 = Caught("outside.tcp_ports[HOST-IPv4]"), Caught("outside.tcp_ports[HOST-IPv6]")
#: Checks that may fail too if a server has no rules at all.
NO_RULES = ("container.closed[*]", "container.names[*]", "egress.closed[HOST-*]", "vpn.closed[*-HOST]")

BREAKAGES = (
    Breakage(
        "firewall.flushed",
        "coordinator",
        "All rules of a server are lost.",
        "nft flush ruleset",
        (DIFFERENT, V4, V6, Caught("egress.closed[HOST-headscale]")),
        NO_RULES,
        REPAIR,
        topologies=("single", "split"),
    ),
    Breakage(
        "firewall.flushed-client",
        "client",
        "All rules of a client are lost.",
        "nft flush ruleset",
        (DIFFERENT, V4, V6),
        ("vpn.closed[*-HOST]",),
        REPAIR,
    ),
    Breakage(
        "firewall.port-opened",
        "client",
        "A port that is not in the access table is open; no program listens there.",
        f"nft insert rule {TABLE} input tcp dport 8080 accept",
        (DIFFERENT, Caught(V4.check, "8080"), Caught(V6.check, "8080")),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.ipv6-hole",
        "gateway",
        "The rules accept all incoming packets over IPv6.",
        f"nft insert rule {TABLE} input meta nfproto ipv6 accept",
        (DIFFERENT, V6),
        ("vpn.closed[*-HOST]",),
        REPAIR,
        sample=Round("single", 2),
    ),
    Breakage(
        "firewall.ssh-for-all",
        "model_host",
        "SSH is open to the whole local network.",
        f"nft insert rule {TABLE} input tcp dport 22 accept",
        (DIFFERENT, Caught(V4.check, r"\b22\b"), Caught(V6.check, r"\b22\b")),
        ("vpn.closed[*-HOST]",),
        REPAIR,
        topologies=("single", "split"),
    ),
    Breakage(
        "firewall.vpn-opened",
        "gateway",
        "The rules accept all incoming packets from the VPN; only the policy still protects the host.",
        f"nft insert rule {TABLE} input iifname tailscale0 accept",
        (DIFFERENT,),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.input-accepts",
        "client",
        "The chain's policy is `accept`; its last rule still rejects.",
        f"nft 'chain {TABLE} input {{ policy accept; }}'",
        (DIFFERENT,),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.spoof-guard-lost",
        "client",
        "VPN addresses are accepted from outside the tunnel.",
        f"nft delete rule {TABLE} input handle "
        f"$(nft -a list chain {TABLE} input | sed -n 's/.*100.64.0.0.*handle //p')",
        (DIFFERENT,),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.forwards",
        "gateway",
        "A server passes packets on between the VPN and its other networks.",
        f"nft flush chain {TABLE} forward",
        (DIFFERENT,),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.egress-opened",
        "model_host",
        "The model server may connect to any address.",
        f"nft insert rule {TABLE} output meta skuid ollama accept",
        (DIFFERENT, Caught("egress.closed[HOST-ollama]")),
        (),
        REPAIR,
        topologies=("single", "split"),
    ),
    Breakage(
        "firewall.egress-all",
        "gateway",
        "A server's list of outgoing rules is empty, so all packets may leave.",
        f"nft flush chain {TABLE} output",
        (DIFFERENT, Caught("egress.closed[HOST-openclaw]"), Caught("container.closed[GATEWAY-internet-IPv4]")),
        NO_RULES,
        REPAIR,
        topologies=("single", "split"),
    ),
    Breakage(
        "firewall.dns-leak",
        "gateway",
        "The container may ask DNS servers outside the house.",
        f"nft insert rule {TABLE} output meta skuid openclaw udp dport 53 accept",
        (DIFFERENT, Caught("egress.closed[HOST-openclaw]")),
        ("container.names[HOST]",),
        REPAIR,
    ),
    Breakage(
        "firewall.not-at-boot",
        "client",
        "The rules are in force now, but would not be loaded at the next boot.",
        "systemctl disable --quiet private-ai-firewall",
        (Caught("host.units[HOST]", "private-ai-firewall"),),
        (),
        REPAIR,
    ),
    Breakage(
        "firewall.masked",
        "client",
        "The unit is stopped and masked, so the rules are removed and do not return at a boot.",
        "systemctl stop private-ai-firewall; ln -sfn /dev/null /etc/systemd/system/private-ai-firewall.service; "
        "systemctl daemon-reload",
        (DIFFERENT, V4, V6, Caught("host.units[HOST]", "private-ai-firewall")),
        ("vpn.closed[*-HOST]",),
        REPAIR,
    ),
    Breakage(
        "firewall.file-emptied",
        "gateway",
        "The file of rules was replaced by an empty one, and the unit started again.",
        f": > {RULES}; systemctl restart private-ai-firewall",
        (DIFFERENT, V4, V6),
        NO_RULES,
        REPAIR,
    ),
    Breakage(
        "firewall.port-of-the-vpn-moved",
        "client",
        "The rule for WireGuard names another port, so other nodes cannot reach this one directly.",
        f"{edit(RULES, 's/udp dport 41641/udp dport 51820/')}; systemctl reload private-ai-firewall",
        (DIFFERENT,),
        ("vpn.wireguard[*]",),
        REPAIR,
    ),
    Breakage(
        "firewall.someone-elses-table",
        "coordinator",
        "A table of somebody else drops packets that the access table allows.",
        "nft add table inet other; "
        "nft 'add chain inet other input { type filter hook input priority 0; policy accept; }'; "
        "nft add rule inet other input iifname != lo tcp dport 443 drop",
        (
            Caught("outside.tcp_ports[HOST-IPv4]"),
            Caught("outside.tcp_ports[HOST-IPv6]"),
            Caught("outside.services[HOST-IPv4]"),
            Caught("outside.services[HOST-IPv6]"),
        ),
        ("container.closed[GATEWAY-coordinator-*]", "tailscale.joined[*]", "headscale.nodes[*]", "tailscale.relay[*]"),
        by_hand=Repair(
            "The deployment owns one table and changes no other: they belong to the host's administrator.",
            "nft delete table inet other",
        ),
    ),
    Breakage(
        "firewall.port-forwarded",
        "gateway",
        "A port of the gateway leads out of the house: a table of somebody else passes its packets on.",
        "sysctl -q net.ipv4.ip_forward=1; nft add table ip other; "
        "nft 'add chain ip other in { type nat hook prerouting priority dstnat; }'; "
        "nft 'add chain ip other out { type nat hook postrouting priority srcnat; }'; "
        "nft add rule ip other in iifname host0 tcp dport 8081 dnat to 198.51.100.10:80; "
        "nft add rule ip other out oifname host0 ip daddr 198.51.100.10 masquerade",
        (Caught("outside.tcp_ports[HOST-IPv4]", "8081"),),
        (),
        by_hand=Repair(
            "The deployment owns one table and changes no other: they belong to the host's administrator.",
            "nft delete table ip other; sysctl -q net.ipv4.ip_forward=0",
        ),
    ),
)
