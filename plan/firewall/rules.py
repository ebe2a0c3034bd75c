"""The nftables rules of one host, from the access table. One own table for both families, replaced as a whole."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from plan.engine.errors import SettingError
from plan.firewall.package_sources import WEB, Apt
from plan.house.access_table import SERVERS, Row
from plan.house.house import House, Member, leads_to, row_for

TABLE = "private_ai"
VPN_INTERFACE = "tailscale0"

#: On a host: the rules that are loaded at boot; where new ones lie until they are confirmed.
RULES = "/etc/private-ai/firewall.nft"
TRIED = f"{RULES}.tried"
#: On a host: since when rules are in force that no new SSH connection has confirmed; when such rules were taken back.
UNCONFIRMED = "/var/lib/private-ai/firewall.unconfirmed"
TAKEN_BACK = "/var/lib/private-ai/firewall.taken-back"
#: On a host: the program that loads rules without cutting what is open, and the table that it has while it does, with
#: one rule that lets everything pass: from then on the kernel tracks connections.
LOADER = "/usr/local/sbin/private-ai-firewall"
TRACKING = "private_ai_tracking"


#: Accounts of daemons that are not root: Debian's (Debian Policy 9.2.2), and those that systemd makes for a unit with
#: DynamicUser= (systemd.io/UIDS-GIDS), as stubby's.
SYSTEM_USERS = ((1, 999), (61184, 65519))


def ruleset(house: House, member: Member, apt: Apt) -> str:
    """The content of the nftables file of one host; loading it replaces our table atomically and no other."""
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
        # With Tailscale's own rules off, nothing may be routed into or out of the VPN.
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
        # With netfilter-mode=off this is ours to do: VPN addresses come out of the tunnel only.
        f'ip saddr {house.vpn_v4} iifname != "{VPN_INTERFACE}" counter drop',
        f'ip6 saddr {house.vpn_v6} iifname != "{VPN_INTERFACE}" counter drop',
        "icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept",
        "icmpv6 type { mld-listener-query, mld-listener-report } accept",
        # Replies to DHCP come from an address that connection tracking did not see us ask.
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
    """What is wrong when a host's rules would refuse new SSH connections like the one at hand; None when nothing is.

    `client` is the controller's address as the host sees it, `port` the port it came in on. `networks` are the host's
    own addresses with their prefixes: a network that holds the client is better advice than an address that may be
    another one tomorrow. `jumps`: SSH goes through another host, so that it is that one's address.
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
    """What to add to admin_networks: as little as will do."""
    shared = [ipaddress.ip_interface(text).network for text in networks]
    found = [network for network in shared if client in network and network.prefixlen < client.max_prefixlen]
    alone = f'"{client}/{client.max_prefixlen}"'
    if not found:
        return f"add {alone} if {who} always has that address, else the network it is in"
    wider = f'"{max(found, key=lambda each: each.prefixlen)}"'
    if client.version == 6 and who == "this computer":
        # Privacy extensions (RFC 8981) give a computer another IPv6 address each day.
        return f"add {wider}, or {alone} if {who} always has that address"
    return f"add {alone}, or {wider} if {who} gets another address now and then"


def tunnel(member: Member, client: str, same_machine: bool) -> str:
    """A warning when SSH reaches a server through a tunnel that the server itself may hold; "" else.

    `client` is the controller's address as the host sees it. `same_machine`: the controller is that host.
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
    # Which nodes a row over the VPN lets in is the policy's business; the firewall lets in all.
    return row.source != "admin" or any(_within(address, network) for network in house.admin_networks)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    return address in ipaddress.ip_network(network)


def _accept(house: House, member: Member, row: Row) -> list[str]:
    port, note = f"{row.protocol} dport {row.port}", f'comment "{row.id}"'
    if row.over == "vpn":
        # People's devices come and go without a run; which of them get in is the policy's business.
        if row.source in SERVERS and all(source == member for source in house.with_role(row.source)):
            return []  # nobody but the host itself, and that goes over loopback
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
    # A client's own way out belongs to its owner; servers get a closed list.
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
        # What OpenClaw's account may do, and nobody else, stands above.
        if row.over == "vpn" and row.source in member.roles and row.id != "ollama":
            rules.append(f'oifname "{VPN_INTERFACE}" {row.protocol} dport {row.port} accept comment "{row.id}"')
    rules += [
        *_apt_rules(apt),
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        # Time, and the names of time servers: whatever daemon keeps it runs as a system user that is not root; the
        # services of ours were refused above. Also over TLS (NTS, DNS over TLS), whether the host is set to it now or
        # not: a person switches it on later, without a run, and who may send anything to any port 53 gets no further
        # with two ports more.
        f"meta skuid {system_users} udp dport 123 accept",
        f"meta skuid {system_users} meta l4proto {{ tcp, udp }} th dport 53 accept",
        f"meta skuid {system_users} tcp dport {{ 853, 4460 }} accept",
        *(rule for row in ways_out(house, member) for rule in _way_out_rules(row)),
        'counter reject with icmpx admin-prohibited comment "egress"',
    ]
    return rules


def is_system_user(number: int) -> bool:
    """Whether an account is a daemon's, which may ask for time and names on a server."""
    return any(first <= number <= last for first, last in SYSTEM_USERS)


def ways_out(house: House, member: Member) -> tuple[Row, ...]:
    """The rows by which a server's kernel, and root there, may begin connections to addresses outside the house."""
    return tuple(row for row in house.access if row.leads_out and row.source in member.roles)


def _way_out_rules(row: Row) -> tuple[str, str]:
    to = f"{'ip6' if ':' in row.target else 'ip'} daddr {row.target} {row.protocol} dport {row.port}"
    # Sockets of the kernel (NFS, CIFS, iSCSI, WireGuard) have no owner, so no match of an account fits them (nft(8),
    # skuid): all other accounts are refused first, and who is left may go.
    return (
        f'{to} meta skuid != 0 counter reject with icmpx admin-prohibited comment "egress {row.id}"',
        f'{to} accept comment "{row.id}"',
    )


def service_egress(house: House, member: Member) -> dict[str, tuple[str, ...]]:
    """Service user -> the only connections it may begin, as nftables matches."""
    ollama = house.port("ollama")
    egress: dict[str, tuple[str, ...]] = {}
    if "coordinator" in member.roles:
        egress["headscale"] = ()
    if "model_hosts" in member.roles:
        # Ollama talks to its model runner on a loopback port of the kernel's choice.
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
            # nftables would look a name up once and for ever; only apt's user may use the port.
            rules.append(f"{user} tcp dport {port} accept")
    # http and https often share one proxy.
    return list(dict.fromkeys(rules))
