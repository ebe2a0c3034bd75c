"""Breakages of the control server: its policy, nodes, relay and ports."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import ANSWERS, CONTROL, RESTART_HEADSCALE, edit, edit_json, until

CONFIG, POLICY = "/etc/headscale/config.yaml", "/etc/headscale/policy.json"
REPAIR = ("Headscale | Configuration, policy, service",)
JOIN = ("Tailscale | Join the house",)
DEVICES = ("Devices | Nodes of the VPN",)

#: Checks that may fail too if the control server does not run.
AWAY = (
    "outside.*[COORDINATOR-*]",
    "host.services[COORDINATOR]",
    "host.listeners[COORDINATOR]",
    "host.programs[COORDINATOR]",
    "container.closed[GATEWAY-coordinator-*]",
    "headscale.*",
    "tailscale.joined[*]",
    "tailscale.relay[*]",
    "ca.server[COORDINATOR-headscale]",
)


def node(name: str) -> str:
    """A piece of shell that stands for the number of a node."""
    find = f'import json, sys; print(next(n["id"] for n in json.load(sys.stdin) if n["given_name"] == "{name}"))'
    return f"$(headscale nodes list -o json | python3 -c '{find}')"


GHOST = "/run/ghost"
STRANGER = "; ".join(
    (
        f"install -d -m 0700 {GHOST}; headscale preauthkeys create --user 1 --expiration 10m -o json "
        f"| python3 -c 'import json, sys; print(json.load(sys.stdin)[\"key\"])' > {GHOST}/key",
        f"tailscaled --tun=userspace-networking --statedir={GHOST} --socket={GHOST}/sock --port=0 --no-logs-no-support "
        f">{GHOST}/log 2>&1 & pid=$!",
        "sleep 2",
        f"tailscale --socket={GHOST}/sock up --login-server={CONTROL} "
        f"--auth-key=file:{GHOST}/key --hostname=ghost --timeout=60s",
        f"kill $pid; wait $pid || :; rm -rf {GHOST}",
    )
)

FOREIGN_RELAY = (
    "printf 'regions: {900: {regionid: 900, regioncode: other, regionname: other, nodes: [{name: 900a, regionid: 900, "
    "hostname: relay.example.com, ipv4: 198.51.100.10, derpport: 443}]}}\\n' > /run/relay.yaml"
)

POISON = "{name: home.vpn.house.internal, type: A, value: 198.51.100.10}"

#: A command that prints the policy that the running server hands out. It listens on two loopback ports; only one of
#: them answers HTTP.
FILTER = (
    "for port in $(ss -Hltnp | sed -n 's/^.* 127.0.0.1:\\([0-9]*\\) .*headscale.*$/\\1/p'); do "
    "curl --silent --max-time 5 http://127.0.0.1:$port/debug/filter; done"
)
#: A command that prints what the control server has told this host's node.
TOLD = "tailscale debug netmap"
WIDENED = '"First": 22,'

WIDEN = edit_json(
    POLICY, 'it["grants"].append({"src": ["group:clients"], "dst": ["tag:gateway-home"], "ip": ["tcp:22"]})'
)
HEARD_OF_ALL = until(f"{TOLD} | grep -q '\"Last\": 65535'")
EMPTY = f": > {POLICY}; systemctl restart headscale; {ANSWERS}"

BREAKAGES = (
    Breakage(
        "headscale.stopped",
        "coordinator",
        "The control server does not run.",
        "systemctl stop headscale",
        (
            Caught("host.units[HOST]", "headscale"),
            Caught("outside.services[HOST-IPv4]"),
            Caught("outside.services[HOST-IPv6]"),
            Caught("outside.stun[HOST-IPv4]"),
            Caught("host.listeners[HOST]", "443"),
        ),
        AWAY,
        REPAIR,
        topologies=("single", "split"),
        sample=Round("split", 1),
    ),
    Breakage(
        "headscale.policy-emptied",
        "coordinator",
        "The policy is empty. For Headscale this means that every node may reach every other node on every port.",
        # This does not wait for the nodes: at this moment they may still have the old policy, or have the new one.
        EMPTY,
        (Caught("headscale.policy_served[HOST]", "too much: . to ."),),
        ("headscale.policy*", "vpn.closed[*]"),
        REPAIR,
        topologies=("single", "split"),
        sample=Round("single", 3),
    ),
    Breakage(
        "headscale.policy-emptied-and-heard",
        "coordinator",
        "The policy is empty, and the nodes have received it.",
        f"{EMPTY}; {HEARD_OF_ALL}",
        (
            Caught("headscale.policy_served[HOST]", "too much: . to ."),
            Caught("headscale.policy[HOST]", "too much: 0.0.0.0/0 to 0.0.0.0/0 ports 0-65535"),
            Caught("headscale.policy[CLIENT]", "too much: 0.0.0.0/0 to 0.0.0.0/0 ports 0-65535"),
        ),
        ("headscale.policy*", "vpn.closed[*]"),
        REPAIR,
        topologies=("single", "split"),
        heard=HEARD_OF_ALL,
    ),
    Breakage(
        "headscale.policy-widened",
        "coordinator",
        "People's devices may also use SSH on the gateway.",
        f"{WIDEN}; systemctl restart headscale; " + until(f"{TOLD} | grep -q '{WIDENED}'"),
        (Caught("headscale.policy[GATEWAY]", "22"), Caught("headscale.policy_served[HOST]", "too much: .* port 22")),
        ("vpn.closed[CLIENT-GATEWAY]",),
        REPAIR,
    ),
    Breakage(
        "headscale.policy-narrowed",
        "coordinator",
        "From the control server's next start, the policy will let nobody reach the gateway.",
        edit_json(POLICY, 'it["grants"] = it["grants"][1:]'),
        (
            Caught("headscale.policy_served[HOST]", "the file holds something else"),
            Caught("headscale.config[HOST]", "its policy were written"),
        ),
        (),
        REPAIR,
    ),
    Breakage(
        "headscale.policy-behind-its-file",
        "coordinator",
        "The running server has a wider policy than its file: the file was restored after the server had read it.",
        f"cp -p {POLICY} /run/policy; sleep 1; {WIDEN}; systemctl kill --kill-whom=main --signal=HUP headscale; "
        + until(f"{FILTER} | grep -q '{WIDENED}'")
        + f"; cat /run/policy > {POLICY}; rm /run/policy",
        (
            Caught("headscale.policy_served[HOST]", "the file is as planned; sent out: .*too much: .* port 22"),
            Caught("headscale.config[HOST]", "its policy were written"),
        ),
        ("headscale.policy[GATEWAY]", "vpn.closed[CLIENT-GATEWAY]"),
        REPAIR,
        sample=Round("single", 2),
    ),
    Breakage(
        "headscale.stranger",
        "coordinator",
        "A device that nobody designated has joined.",
        STRANGER,
        (Caught("headscale.nodes[HOST]", "ghost"),),
        ("headscale.policy*",),
        repaired_by=DEVICES,
    ),
    Breakage(
        "headscale.wrong-tag",
        "coordinator",
        "The gateway's node has lost its tag, so no grant of the policy is for it.",
        f"headscale nodes tag -i {node('home')} -t tag:model-host; sleep 5",
        (Caught("headscale.nodes[HOST]"), Caught("vpn.granted[CLIENT-HOST]")),
        ("headscale.policy*", "message.*", "vpn.*", "tailscale.joined[*]"),
        JOIN,
    ),
    Breakage(
        "headscale.node-expired",
        "coordinator",
        "The key of a client's node has expired.",
        f"headscale nodes expire -i {node('laptop')}; sleep 5",
        (Caught("tailscale.joined[CLIENT]"), Caught("headscale.nodes[HOST]"), Caught("vpn.granted[CLIENT-GATEWAY]")),
        ("headscale.policy*", "vpn.*", "message.*", "tailscale.*[CLIENT]"),
        JOIN,
    ),
    Breakage(
        "headscale.node-deleted",
        "coordinator",
        "A client's node was deleted at the control server.",
        f"headscale nodes delete --force -i {node('laptop')}; sleep 5",
        (Caught("headscale.nodes[HOST]"), Caught("vpn.granted[CLIENT-GATEWAY]")),
        ("headscale.policy*", "vpn.*", "message.*", "tailscale.*[CLIENT]"),
        JOIN,
    ),
    Breakage(
        "headscale.foreign-relay",
        "coordinator",
        "The control server tells the nodes to use a relay that belongs to somebody else.",
        f"{FOREIGN_RELAY}; {edit(CONFIG, 's#  paths: .*#  paths: [/run/relay.yaml]#')}; {RESTART_HEADSCALE}",
        (
            Caught("tailscale.relay[HOST]", "relay.example.com"),
            Caught("tailscale.relay[CLIENT]", "relay.example.com"),
            Caught("headscale.config[HOST]", "no relays of others"),
        ),
        ("tailscale.relay[*]",),
        REPAIR,
    ),
    Breakage(
        "headscale.logs-uploaded",
        "coordinator",
        "The control server tells the nodes to send their logs to Tailscale.",
        f"{edit(CONFIG, 's/logtail: {enabled: false}/logtail: {enabled: true}/')}; {RESTART_HEADSCALE}",
        (Caught("headscale.config[HOST]", "no logs sent"),),
        ("tailscale.joined[*]",),
        REPAIR,
    ),
    Breakage(
        "headscale.relay-for-all",
        "coordinator",
        "The relay also serves nodes that are not in the house.",
        f"{edit(CONFIG, 's/verify_clients: true/verify_clients: false/')}; {RESTART_HEADSCALE}",
        (Caught("headscale.config[HOST]", "for its own nodes"),),
        (),
        REPAIR,
    ),
    Breakage(
        "headscale.foreign-names",
        "coordinator",
        "The control server tells people's devices to ask a name server outside the house.",
        f"{edit(CONFIG, 's/nameservers: {global: ../nameservers: {global: [198.51.100.10]/')}; {RESTART_HEADSCALE}",
        (Caught("headscale.config[HOST]", "no name servers of others"),),
        ("vpn.names[*]",),
        REPAIR,
    ),
    Breakage(
        "headscale.node-renamed",
        "coordinator",
        "The gateway's node has another name, so the name that people use does not exist any more.",
        f"headscale nodes rename -i {node('home')} other; sleep 5",
        (Caught("headscale.nodes[HOST]", "other"), Caught("vpn.names[CLIENT]"), Caught("message.answered[CLIENT]")),
        ("vpn.granted[*]", "message.*", "host.services[HOST]", "tailscale.joined[HOST]"),
        repaired_by=DEVICES,
    ),
    Breakage(
        "headscale.key-left",
        "coordinator",
        "There is a key with which any device can join for a day.",
        "headscale preauthkeys create --user 1 --reusable --expiration 24h >/dev/null",
        (Caught("headscale.keys[HOST]"),),
        (),
        DEVICES,
    ),
    Breakage(
        "headscale.program-replaced",
        "coordinator",
        "The link to the program leads to another file, and that file runs as the control server.",
        "install -d /opt/other; cp -L /usr/local/bin/headscale /opt/other/headscale; "
        f"ln -sfn /opt/other/headscale /usr/local/bin/headscale; {RESTART_HEADSCALE}",
        (Caught("host.programs[HOST]", "/opt/other/headscale"),),
        (),
        REPAIR,
    ),
    Breakage(
        "headscale.update-check",
        "coordinator",
        "The control server asks its makers for new versions.",
        f"{edit(CONFIG, 's/disable_check_updates: true/disable_check_updates: false/')}; {RESTART_HEADSCALE}",
        (Caught("headscale.config[HOST]", "no update check"),),
        (),
        REPAIR,
    ),
    Breakage(
        "headscale.listens-wider",
        "coordinator",
        "The control server's metrics can be read on all addresses.",
        edit(CONFIG, "s/metrics_listen_addr: .*/metrics_listen_addr: 0.0.0.0:9090/") + f"; {RESTART_HEADSCALE}",
        (Caught("host.listeners[HOST]", "9090"), Caught("headscale.config[HOST]", "metrics")),
        ("host.owners[HOST]",),
        REPAIR,
    ),
    Breakage(
        "headscale.names-poisoned",
        "coordinator",
        "The control server gives the nodes a wrong address for a name.",
        edit(CONFIG, f"s/  nameservers: .*/&\\n  extra_records: [{POISON}]/") + f"; {RESTART_HEADSCALE}",
        (Caught("headscale.config[HOST]", "no names but"),),
        ("vpn.names[*]", "vpn.granted[*]", "message.*"),
        REPAIR,
    ),
    Breakage(
        "headscale.random-ports",
        "coordinator",
        "The control server tells the nodes to use any port for WireGuard, so no program uses the port that the access "
        "table opens.",
        edit_json(POLICY, 'it["randomizeClientPort"] = True') + f"; {RESTART_HEADSCALE}; sleep 5",
        (
            Caught("host.listeners[HOST]", "41641"),
            Caught("host.listeners[CLIENT]", "41641"),
            Caught("headscale.policy_served[HOST]", "the file holds something else"),
        ),
        ("host.owners[*]", "vpn.wireguard[*]", "outside.*", "host.listeners[*]"),
        REPAIR,
        # The nodes hear of the repair one after the other, and then take their old port again.
        settled=until("ss -Hlun sport = :41641 | grep -q .", seconds=120) + "; sleep 20",
    ),
    Breakage(
        "headscale.api-key",
        "coordinator",
        "There is an API key with which anybody on the local network can give commands to the control server.",
        "headscale apikeys create --expiration 24h >/dev/null",
        (Caught("headscale.keys[HOST]", "API key"),),
        by_hand=Repair(
            "An administrator may have made the API key for a program of their own; the deployment cannot know that.",
            "headscale apikeys expire --id $(headscale apikeys list -o json | "
            "python3 -c 'import json, sys; print(json.load(sys.stdin)[-1][\"id\"])') >/dev/null",
        ),
    ),
)
