"""The lab's network: a network namespace without uplink, a bridge in it, and an interface for the controller (its
leg)."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from lab.state import LabError, State
from lab.topology import Lab
from plan.engine.errors import SettingError

BRIDGE = "lab0"
CONTROLLER_PORT = "ctl"  # the bridge's end of the controller's leg
PROXY_PORT = 8888
ROUTES = ("route", "show", "table", "all")
#: The subnet numbers for labs that ask for any free network. DEFAULT_NET and the numbers near it are left to people.
FREE = range(81, 200)
#: In /run: so all checkouts on this machine use the same lock, and it is gone after a restart, like the labs.
LOCK = Path("/run/private-ai-lab.networks")


def rules(lab: Lab) -> str:
    """The nftables rules for packets from the hosts to the machine on which they run.

    Only replies, and connections to the package proxy, are allowed. The rules use neither connection tracking nor
    reject, because many kernels do not have them for bridges. Instead, the first packet of a TCP connection may go to
    the proxy only. A UDP packet is allowed only if the controller has sent a packet from that port within the last
    minute.
    """
    controller = lab.controller
    return f"""\
table bridge lab
delete table bridge lab
table bridge lab {{
    set asked_v4 {{
        type ipv4_addr . inet_service . inet_service
        flags dynamic,timeout
        timeout 1m
        size 65535
    }}
    set asked_v6 {{
        type ipv6_addr . inet_service . inet_service
        flags dynamic,timeout
        timeout 1m
        size 65535
    }}
    chain to_hosts {{
        ether type ip udp dport 0-65535 update @asked_v4 {{ ip daddr . udp dport . udp sport }}
        ether type ip6 udp dport 0-65535 update @asked_v6 {{ ip6 daddr . udp dport . udp sport }}
    }}
    chain to_controller {{
        ether type arp accept
        icmp type {{ echo-request, echo-reply, destination-unreachable, time-exceeded }} accept
        icmpv6 type {{ echo-request, echo-reply, destination-unreachable, time-exceeded }} accept
        icmpv6 type {{ packet-too-big, nd-neighbor-solicit, nd-neighbor-advert }} accept
        ip daddr {controller.v4} tcp dport {PROXY_PORT} accept
        ip6 daddr {controller.v6} tcp dport {PROXY_PORT} accept
        meta l4proto tcp tcp flags & (syn | ack) != syn accept
        ip saddr . udp sport . udp dport @asked_v4 accept
        ip6 saddr . udp sport . udp dport @asked_v6 accept
        counter drop
    }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        iifname "{CONTROLLER_PORT}" jump to_hosts
        oifname "{CONTROLLER_PORT}" jump to_controller
    }}
}}
"""


def is_up(state: State) -> bool:
    """Whether the lab's network namespace exists."""
    return str(state.namespace) in mounts_below(state.directory)


def inside(state: State, *command: str) -> list[str]:
    """The words that run a command in the lab's network.

    `ip netns exec` would not do: it mounts a new /sys, in which nspawn does not find the control groups.
    """
    return ["nsenter", f"--net={state.namespace}", *command]


def bring_up(lab: Lab, state: State) -> None:
    """Make namespace, bridge, leg and rules, or those that are missing."""
    if not is_up(state):
        state.namespace.touch()
        _run(["unshare", f"--net={state.namespace}", "true"])
    links = {link["ifname"] for link in json.loads(_run(inside(state, "ip", "-j", "link")))}
    if BRIDGE not in links:
        # No wait for the spanning tree. No multicast snooping, because with it quiet bridges lose neighbour discovery.
        options = ["forward_delay", "0", "mcast_snooping", "0"]
        _run(inside(state, "ip", "link", "add", BRIDGE, "type", "bridge", *options))
        _run(inside(state, "ip", "link", "set", BRIDGE, "addrgenmode", "none", "up"))
    if CONTROLLER_PORT not in links:
        _add_leg(lab, state)
    _run(inside(state, "nft", "-f", "-"), input=rules(lab))


def _add_leg(lab: Lab, state: State) -> None:
    leg = lab.interface
    peer = ["peer", "name", CONTROLLER_PORT, "netns", str(state.namespace)]
    _run(["ip", "link", "add", leg, "type", "veth", *peer])
    _run(["ip", "link", "set", leg, "alias", _alias(state)])
    # A host of the lab must not be able to give the machine addresses or routes.
    Path(f"/proc/sys/net/ipv6/conf/{leg}/accept_ra").write_text("0")
    _run(["ip", "address", "add", f"{lab.controller.v4}/24", "dev", leg])
    _run(["ip", "address", "add", f"{lab.controller.v6}/64", "dev", leg, "nodad"])
    _run(["ip", "link", "set", leg, "up"])
    _run(inside(state, "ip", "link", "set", CONTROLLER_PORT, "master", BRIDGE))
    _run(inside(state, "ip", "link", "set", CONTROLLER_PORT, "addrgenmode", "none", "up"))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Only one lab of this machine takes its network at a time. Otherwise two labs could find the same network free."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_net() -> int:
    """The first subnet number from FREE whose networks this machine does not use. LabError if there is none.

    Call it, and take the network, inside of one_at_a_time(): otherwise another lab may take the network first.
    """
    used = _routes()
    for number in FREE:
        lab = Lab(net=number)
        if not any(network.overlaps(lan) for network, _ in used for lan in (lab.lan_v4, lab.lan_v6)):
            return number
    raise LabError(
        f"no network 10.N.0.0/24 with N from {FREE[0]} to {FREE[-1]} is free: take labs down with `make down`"
    )


def _routes() -> list[tuple[IPv4Network | IPv6Network, str]]:
    """The networks that this machine has routes to, and the device of each."""
    shown = [route for family in ("-4", "-6") for route in json.loads(_run(["ip", "-j", family, *ROUTES]))]
    return [
        (ip_network(route["dst"], strict=False), str(route["dev"]))
        for route in shown
        if "/" in route["dst"] and route.get("dev", "lo") != "lo"
    ]


def refuse_clash(lab: Lab, state: State) -> None:
    """SettingError if the machine already uses the lab's network for something else."""
    if leg_exists(lab, state):
        return
    for network, device in _routes():
        if network.overlaps(lab.lan_v4) or network.overlaps(lab.lan_v6):
            raise SettingError(
                "LAB_NET (--net)",
                lab.net,
                f"a number whose network 10.N.0.0/24 is free (here {network} is on {device}), or `free`",
                "choose another number, or end the lab that uses it with `make down`",
            )


def take_down(lab: Lab, state: State) -> None:
    """Remove leg, bridge and namespace, as far as they exist."""
    if leg_exists(lab, state):
        _run(["ip", "link", "delete", lab.interface])
    while is_up(state):
        _run(["umount", str(state.namespace)])


def leg_exists(lab: Lab, state: State) -> bool:
    """Whether this lab's leg exists. An interface of the same name that another program has made does not count."""
    try:
        return Path(f"/sys/class/net/{lab.interface}/ifalias").read_text().strip() == _alias(state)
    except FileNotFoundError:
        return False


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or under a directory, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").rstrip("\n").split("\n")
    # In this file, spaces and backslashes in paths are written as \040 and \134. Other characters are not changed.
    points = [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4]) for line in lines]
    return sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True)


def _alias(state: State) -> str:
    return f"private-ai-lab {state.label}"


def _run(command: list[str], input: str | None = None) -> str:
    done = subprocess.run(command, input=input, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
