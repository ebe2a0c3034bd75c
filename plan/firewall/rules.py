"""Makes the nftables rules of one host from the access table. They are one table of our own for IPv4 and IPv6. Loading
them replaces this table as a whole."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from plan.engine.errors import SettingError
from plan.firewall.package_sources import WEB, Apt
from plan.house.access_table import SERVERS, Row
from plan.house.house import House, Member, leads_to, row_for

TABLE = "private_ai"
VPN_INTERFACE = "tailscale0"

#: Files on a host: the rules that the host loads at boot, and new rules that are not confirmed yet.
RULES = "/etc/private-ai/firewall.nft"
TRIED = f"{RULES}.tried"
#: Files on a host with a time: since when unconfirmed rules are in force (no new SSH connection has succeeded yet), and
#: when unconfirmed rules were taken back.
UNCONFIRMED = "/var/lib/private-ai/firewall.unconfirmed"
TAKEN_BACK = "/var/lib/private-ai/firewall.taken-back"
#: On a host: the program that loads rules without cutting open connections. Before it loads them, it makes the table
#: TRACKING, whose one rule lets everything pass. From then on the kernel tracks connections.
LOADER = "/usr/local/sbin/private-ai-firewall"
TRACKING = "private_ai_tracking"


#: The numbers of accounts for daemons other than root: Debian's (Debian Policy 9.2.2), and those that systemd makes for
#: units with DynamicUser= (systemd.io/UIDS-GIDS), such as stubby.
SYSTEM_USERS = ((1, 999), (61184, 65519))


def ruleset(house: House, member: Member, apt: Apt) -> str:
    """The content of one host's nftables file. Loading it replaces our table atomically, and changes no other table."""
    lines = [
        "# Written by the deployment from the access table; edits are overwritten.",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        "  chain input {",
        "    type filter hook input priority filter - 5; policy drop;",
        *(f"    {rule}" for rule in _input(house, member)),
        "  }",
        "  chain forward {",
        "    type filter hook forward priority filter - 5; policy accept;",
        # Tailscale's own rules are off, so our rules must forbid routing into and out of the VPN.
        f'    iifname "{VPN_INTERFACE}" counter drop',
        f'    oifname "{VPN_INTERFACE}" counter drop',
        "  }",
        "  chain output {",
        "    type filter hook output priority filter - 5; policy accept;",
        *(f"    {rule}" for rule in _output(house, member, apt)),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _input(house: House, member: Member) -> list[str]:
    rules = [
        "ct state established,related accept",
        "ct state invalid drop",
        'iifname "lo" accept',
        # Tailscale's own rules would do this, but they are off: packets from VPN addresses may come only from the
        # tunnel.
        f'ip saddr {house.vpn_v4} iifname != "{VPN_INTERFACE}" counter drop',
        f'ip6 saddr {house.vpn_v6} iifname != "{VPN_INTERFACE}" counter drop',
        "icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept",
        "icmpv6 type { mld-listener-query, mld-listener-report } accept",
        # A DHCP server answers from another address than the one that the host asked, so connection tracking does not
        # know the answer.
        f'iifname != "{VPN_INTERFACE}" udp sport 67 udp dport 68 accept',
        f'iifname != "{VPN_INTERFACE}" ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept',
    ]
    for row in house.access:
        if leads_to(row, member):
            rules.extend(_accept(house, member, row))
    rules.append("counter reject with icmpx admin-prohibited")
    return rules


def locked_out(
    house: House, member: Member, client: str, port: int, networks: Iterable[str] = (), *, jumps: bool = False
) -> SettingError | None:
    """The error when a host's rules would refuse a new SSH connection like the present one; else None.

    `client`: the controller's address as the host sees it. `port`: the port on the host to which it is connected.
    `networks`: the host's own addresses with their prefixes. If one of these networks has the client in it, the message
    suggests the network, because the client's address may change. `jumps`: SSH goes through a jump host, so `client`
    is the jump host's address.
    """
    address = ipaddress.ip_address(client.partition("%")[0])
    if address.is_loopback:
        return None
    over = "vpn" if any(_within(address, network) for network in (house.vpn_v4, house.vpn_v6)) else "lan"
    rows = [row for row in house.access if leads_to(row, member) and (row.protocol, row.over) == ("tcp", over)]
    who = "the jump host" if jumps else "this computer"
    here = f"{who} reaches {member.name} from {client} on port {port}"
    if not any(row.port == port for row in rows):
        found = ", ".join(f"{row.port}/tcp" for row in rows) or "no port"
        row = row_for(member, f"{port}/tcp", "admin" if over == "lan" else f"{house.users[0]}@", over)
        return SettingError(
            f"access_table, rows to {member.name} over {over}",
            found,
            f"one for {port}/tcp: {here}",
            f"{row}; or connect by a way that the table allows: another ssh_port or ssh_hostname",
        )
    if any(row.port == port and _lets_in(house, row, address) for row in rows):
        return None
    return SettingError(
        "admin_networks",
        list(house.admin_networks),
        f"networks that hold {client}: {here}",
        _advice(address, networks, who),
    )


def _advice(client: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Iterable[str], who: str) -> str:
    """What to add to admin_networks: the smallest network that is enough."""
    shared = [ipaddress.ip_interface(text).network for text in networks]
    found = [network for network in shared if client in network and network.prefixlen < client.max_prefixlen]
    alone = f'"{client}/{client.max_prefixlen}"'
    if not found:
        return f"add {alone} if {who} always has that address, else the network it is in"
    wider = f'"{max(found, key=lambda each: each.prefixlen)}"'
    if client.version == 6 and who == "this computer":
        # With privacy extensions (RFC 8981), a computer has another IPv6 address each day.
        return f"add {wider}, or {alone} if {who} always has that address"
    return f"add {alone}, or {wider} if {who} gets another address now and then"


def tunnel(member: Member, client: str, same_machine: bool) -> str:
    """A warning when SSH reaches a server through a tunnel that the server itself may open; else "".

    `client`: the controller's address as the host sees it. `same_machine`: the controller is this host.
    """
    if same_machine or not client or not member.is_server:
        return ""
    if not ipaddress.ip_address(client.partition("%")[0]).is_loopback:
        return ""
    return (
        f"host {member.name}: this computer reaches it from {client}, through a tunnel. A server's own programs cannot "
        "begin connections, so a tunnel that the host itself opens (cloudflared, ssh -R, a VPN of your own) does not "
        "come back after a restart, and nobody gets in. Next: see that there is another way in, or end this run now."
    )


def _lets_in(house: House, row: Row, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    # For rows over the VPN, the policy decides which nodes may connect. The firewall lets all of them in.
    return row.source != "admin" or any(_within(address, network) for network in house.admin_networks)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    return address in ipaddress.ip_network(network)


def _accept(house: House, member: Member, row: Row) -> list[str]:
    port, note = f"{row.protocol} dport {row.port}", f'comment "{row.id}"'
    if row.over == "vpn":
        # Devices join and leave without a run, so the policy decides which nodes may connect, not the firewall.
        if row.source in SERVERS and all(source == member for source in house.with_role(row.source)):
            return []  # Only the host itself may connect, and it uses loopback.
        return [f'iifname "{VPN_INTERFACE}" {port} accept {note}']
    if row.source == "lan":
        return [f'iifname != "{VPN_INTERFACE}" {port} accept {note}']
    networks = [ipaddress.ip_network(text) for text in house.admin_networks]
    return [
        f'iifname != "{VPN_INTERFACE}" {family} saddr {{ {", ".join(found)} }} {port} accept {note}'
        for family, version in (("ip", 4), ("ip6", 6))
        if (found := [str(network) for network in networks if network.version == version])
    ]


def _output(house: House, member: Member, apt: Apt) -> list[str]:
    # A client may begin any connection, because it is a person's computer. A server gets a list.
    if not member.is_server:
        return []
    rules = ["ct state established,related accept"]
    system_users = f"{{ {', '.join(f'{first}-{last}' for first, last in SYSTEM_USERS)} }}"
    for user, allowed in service_egress(house, member).items():
        rules.extend(f'meta skuid "{user}" {rule} accept' for rule in allowed)
        rules.append(f'meta skuid "{user}" counter reject with icmpx admin-prohibited comment "egress {user}"')
    rules += [
        'oifname "lo" accept',
        "icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept",
        "icmpv6 type { mld-listener-report, mld2-listener-report } accept",
        # tailscaled runs as root; its WireGuard packets leave from the port of the access table.
        f"meta skuid 0 udp sport {house.port('wireguard')} accept",
    ]
    for text in house.coordinator.addresses:
        family = "ip6" if ":" in text else "ip"
        rules.append(f"{family} daddr {text} tcp dport {house.port('headscale')} meta skuid 0 accept")
        rules.append(f"{family} daddr {text} udp dport {house.port('stun')} meta skuid 0 accept")
    for row in house.access:
        # Only OpenClaw's account may connect to Ollama; its rule is above.
        if row.over == "vpn" and row.source in member.roles and row.id != "ollama":
            rules.append(f'oifname "{VPN_INTERFACE}" {row.protocol} dport {row.port} accept comment "{row.id}"')
    rules += [
        *_apt_rules(apt),
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        # Time, and the names of time servers. The daemon for time runs as a system account that is not root; rules
        # above have refused our own services. The rules also allow NTS and DNS over TLS, even if the host does not use
        # them now: a person may switch them on later, without a run. These two ports add no risk: the account may
        # already send anything to port 53 of any address.
        f"meta skuid {system_users} udp dport 123 accept",
        f"meta skuid {system_users} meta l4proto {{ tcp, udp }} th dport 53 accept",
        f"meta skuid {system_users} tcp dport {{ 853, 4460 }} accept",
        *(rule for row in ways_out(house, member) for rule in _way_out_rules(row)),
        'counter reject with icmpx admin-prohibited comment "egress"',
    ]
    return rules


def is_system_user(number: int) -> bool:
    """Whether this is the number of a daemon's account. On a server, daemons may ask for time and names."""
    return any(first <= number <= last for first, last in SYSTEM_USERS)


def ways_out(house: House, member: Member) -> tuple[Row, ...]:
    """The rows that let a server's kernel and root begin connections to addresses outside the house."""
    return tuple(row for row in house.access if row.leads_out and row.source in member.roles)


def _way_out_rules(row: Row) -> tuple[str, str]:
    to = f"{'ip6' if ':' in row.target else 'ip'} daddr {row.target} {row.protocol} dport {row.port}"
    # Sockets of the kernel (NFS, CIFS, iSCSI, WireGuard) have no owner, so no match for an account applies to them
    # (nft(8), skuid). So the first rule refuses all accounts but root, and the second one accepts the rest.
    return (
        f'{to} meta skuid != 0 counter reject with icmpx admin-prohibited comment "egress {row.id}"',
        f'{to} accept comment "{row.id}"',
    )


def service_egress(house: House, member: Member) -> dict[str, tuple[str, ...]]:
    """Account of a service -> the only connections that it may begin, as nftables matches."""
    ollama = house.port("ollama")
    egress: dict[str, tuple[str, ...]] = {}
    if "coordinator" in member.roles:
        egress["headscale"] = ()
    if "model_hosts" in member.roles:
        # Ollama connects to its model runner on loopback. The kernel chooses the port.
        egress["ollama"] = ('oifname "lo" ip daddr 127.0.0.1 tcp dport 32768-60999',)
        egress["ollama-vpn"] = (f'oifname "lo" ip daddr 127.0.0.1 tcp dport {ollama}',)
    if "gateway" in member.roles:
        local = "model_hosts" in member.roles
        remote = any(other != member for other in house.with_role("model_hosts"))
        egress["openclaw"] = tuple(
            rule
            for wanted, rule in (
                (local, f'oifname "lo" ip daddr 127.0.0.1 tcp dport {ollama}'),
                (remote, f'oifname "{VPN_INTERFACE}" tcp dport {ollama}'),
            )
            if wanted
        )
    return egress


def _apt_rules(apt: Apt) -> Sequence[str]:
    user = 'meta skuid "_apt"'
    if not apt.proxies:
        ports = ", ".join(map(str, sorted({*WEB, *apt.mirror_ports})))
        return [f"{user} tcp dport {{ {ports} }} accept"]
    rules = []
    for name, port in apt.proxies:
        try:
            family = "ip6" if ipaddress.ip_address(name).version == 6 else "ip"
            rules.append(f"{user} {family} daddr {name} tcp dport {port} accept")
        except ValueError:
            # nftables looks a name up only once, when the rules are loaded. So this rule names no address.
            rules.append(f"{user} tcp dport {port} accept")
    # http and https often use the same proxy, which would give the same rule twice.
    return list(dict.fromkeys(rules))
