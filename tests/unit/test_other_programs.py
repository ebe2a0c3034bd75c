"""Other programs on a host: each case works together with the house, or is refused with the next step."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facts.base.profile import SCRIPT
from operations.engine import claims
from plan.base.profile import Beside, Listener, Outgoing, Profile, Vpn
from plan.engine.claims import ACCOUNTS, CLAIMED, CLAIMS, Login, claim_file, claims_of
from plan.house.house import House
from plan.other_programs.check import check_beside
from plan.other_programs.drop_ins import in_force, script
from plan.other_programs.nft_listing import parse
from tasks import headscale, ollama, openclaw, tailscale
from tests.unit.fakes import Fake, context
from tests.unit.houses import SETTINGS, single, split
from tests.unit.test_preflight import GOOD

RECORDED = Path(__file__).parent / "recorded"
SERVERS = ("coordinator", "gateway", "model_hosts")
HERE = replace(GOOD, addresses=(("lo", "127.0.0.1/8"), ("eth0", "10.77.0.11/24"), ("eth0", "fd4c:4142:77::11/64")))


def look(
    profile: Profile = HERE, house: House | None = None, host: str = "home", **beside: Any
) -> tuple[list[str], list[str]]:
    """The problems and warnings of a host, as texts."""
    house = house or single()
    problems, warnings = check_beside(house, house.member(host), replace(profile, beside=Beside(**beside)))
    return [str(problem) for problem in problems], warnings


def listening(*listeners: tuple[str, str, int, str, str]) -> Profile:
    return replace(HERE, listeners=(*HERE.listeners, *(Listener(*each) for each in listeners)))  # type: ignore[arg-type]


def chains(name: str) -> Any:
    return parse((RECORDED / f"{name}.txt").read_text().splitlines())


def with_row(port: str, **row: str) -> dict[str, Any]:
    added = {"id": "mine", "from": "lan", "to": "all", "port": port, "over": "lan", "why": "mine", **row}
    return {"access_table": [*SETTINGS["access_table"], added]}


def test_a_bare_host_passes_silently() -> None:
    assert look() == ([], [])


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (
            {
                "places": {"/usr/lib/systemd/system/tailscaled.service", "/var/lib/tailscale"},
                "vpn": Vpn("Running", "https://x"),
            },
            ["host home: Tailscale", "logged in to https://x", "/var/lib/tailscale", "tailscale logout; apt purge"],
        ),
        (
            {"places": {"/etc/default/tailscaled"}, "vpn": Vpn("NeedsLogin", "https://x")},
            ["host home: Tailscale", "not logged in", "https://x", "/etc/default/tailscaled"],
        ),
        ({"places": {"/var/lib/tailscale"}}, ["host home: Tailscale", "there already: /var/lib/tailscale"]),
        (
            {"places": {"/etc/systemd/system/ollama.service", "/usr/local/bin/ollama"}},
            ["host home: Ollama", "/etc/systemd/system/ollama.service", "systemctl disable --now ollama"],
        ),
        ({"places": {"/etc/systemd/system/ollama.service.d"}}, ["host home: Ollama", "ollama.service.d"]),
        ({"places": {"/etc/headscale"}}, ["host home: Headscale", "/etc/headscale", "coordinator to another host"]),
        ({"places": {"/var/lib/openclaw"}}, ["host home: OpenClaw", "mv /var/lib/openclaw /var/lib/openclaw.before"]),
        (
            {"logins": (Login("ollama", 995, "/usr/share/ollama", "/bin/false"),)},
            ["host home: account ollama", "number 995, home /usr/share/ollama", "userdel ollama"],
        ),
        (
            {"logins": (Login("openclaw", 1000, "/var/lib/openclaw", "/usr/sbin/nologin"),)},
            ["host home: account openclaw", "number 1000"],
        ),
        (
            {"logins": (Login("headscale", 990, "/var/lib/headscale", "/bin/bash"),)},
            ["host home: account headscale", "shell /bin/bash"],
        ),
        ({"groups": {"ollama"}}, ["host home: group ollama", "groupdel ollama"]),
    ],
)
def test_what_is_somebody_elses_is_refused_with_what_to_do(beside: dict[str, Any], words: list[str]) -> None:
    problems, _ = look(**beside)
    assert len(problems) == 1
    for word in (*words, "Next: "):
        assert word in problems[0]


def test_a_tailscale_in_a_container_is_seen_by_its_interface_and_its_chains() -> None:
    profile = replace(HERE, addresses=(*HERE.addresses, ("tailscale0", "100.64.0.9/32")))
    chain = parse(["table ip filter {", "chain ts-input {", "}", "}"])
    assert "interface tailscale0" in look(profile)[0][0]
    assert "chain ts-input of table ip filter" in look(chains=chain)[0][0]
    assert look(profile, claimed=set(claim_file(SERVERS, ()).split()))[0] == []


def test_what_the_house_made_passes_on_every_later_run() -> None:
    """Also if the first run was interrupted, because the note is written before everything else."""
    claimed = frozenset(claim_file(SERVERS, ()).split())
    logins = tuple(Login(name, 990, home, "/usr/sbin/nologin") for name, (_, home) in ACCOUNTS.items())
    groups = frozenset(ACCOUNTS)
    assert look(claimed=claimed, places=claimed, logins=logins, groups=groups) == ([], [])
    # A package that was installed later belongs to its owner.
    assert look(claimed=claimed, places=claimed | {"/usr/lib/systemd/system/tailscaled.service"}) == ([], [])


WIDE = "/etc/systemd/system/ollama.service.d/wide.conf"


def test_a_change_to_a_unit_of_the_house_is_refused_with_what_takes_it_away() -> None:
    claimed = frozenset(claim_file(SERVERS, ()).split())
    cage = "/var/lib/openclaw/.config/systemd/user/openclaw.service"
    problems, _ = look(claimed=claimed, drop_ins=(("ollama.service", WIDE), ("openclaw.service", cage)))
    assert len(problems) == 2
    assert "host home: ollama.service" in problems[0]
    assert f"rm -r {WIDE}; systemctl daemon-reload; systemctl restart ollama.service" in problems[0]
    assert f"rm -r {cage}; systemctl --user --machine=openclaw@ daemon-reload" in problems[1]
    # If the house has no such unit on this host, the unit belongs to its owner.
    assert look(house=split(), host="laptop", drop_ins=(("ollama.service", WIDE),)) == ([], [])
    # Before the first run, the folder is reported, and only once.
    first, _ = look(places={"/etc/systemd/system/ollama.service.d"}, drop_ins=(("ollama.service", WIDE),))
    assert len(first) == 1 and "host home: Ollama" in first[0]


def drop_ins_in(root: Path, *paths: str, roles: tuple[str, ...] = SERVERS) -> list[str]:
    """The drop-ins that the script finds on a host whose files are below `root`. The paths are without `root`."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("[Service]\n")
    text = script(roles)
    for top in ("/etc/", "/run/", "/usr/", "/var/"):
        text = re.sub(rf"(?<=['\s]){top}", f"{root}{top}", text)
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert not done.stderr
    return sorted(done.stdout.replace(f"{root}/", "").splitlines())


def test_changes_are_found_wherever_systemd_and_podman_look(tmp_path: Path) -> None:
    ours = (
        "etc/systemd/system/ollama.service",
        "etc/systemd/user/openclaw-warm.timer",
        "etc/containers/systemd/users/992/openclaw.container",
    )
    vendor = ("usr/lib/systemd/system/ollama.service.d/vendor.conf", "etc/systemd/system/service.d/every.conf")
    others = ("etc/systemd/system/nginx.service.d/x.conf", "etc/systemd/system/ollama.service.d/notes.txt")
    assert drop_ins_in(tmp_path, *ours, *vendor, *others) == []
    found = {
        "etc/systemd/system/ollama.service.d/wide.conf": "ollama.service",
        "etc/systemd/system.control/headscale.service.d/50-MemoryMax.conf": "headscale.service",
        "run/systemd/system/tailscaled.service.d/x.conf": "tailscaled.service",
        "run/systemd/transient/tailscaled.service": "tailscaled.service",
        "usr/local/lib/systemd/system/private-.timer.d/x.conf": "private-ai-health.timer",
        "etc/systemd/user/openclaw.service.d/x.conf": "openclaw.service",
        "var/lib/openclaw/.config/systemd/user/openclaw.service": "openclaw.service",
        "etc/containers/systemd/users/992/openclaw.container.d/x.conf": "openclaw.container",
        "var/lib/openclaw/.config/containers/systemd/openclaw.container": "openclaw.container",
    }
    both = {path: [unit] for path, unit in found.items()}
    # Of both roles that have it, and once.
    both["usr/local/lib/systemd/system/private-.timer.d/x.conf"].extend(
        ("private-ai-backup.timer", "private-ai-renew.timer")
    )
    told = sorted(f"{unit} {path}" for path, units in both.items() for unit in units)
    assert drop_ins_in(tmp_path, *found) == told
    client = drop_ins_in(tmp_path, roles=("clients",))
    assert {line.split()[0] for line in client} == {
        "tailscaled.service",
        "private-ai-health.timer",
        "private-ai-renew.timer",
    }


def test_a_name_that_would_look_like_another_line_is_not_told(tmp_path: Path) -> None:
    folder = "var/lib/openclaw/.config/systemd/user/openclaw.service.d"
    assert drop_ins_in(tmp_path, f"{folder}/a\n@@ end\n.conf") == [f"openclaw.service {folder}"]


def test_what_systemd_has_in_force_counts_too() -> None:
    shown = f"Id=ollama.service\nFragmentPath=x\nDropInPaths=/usr/lib/systemd/system/ollama.service.d/a.conf {WIDE}\n\n"
    shown += f"Id=nginx.service\nDropInPaths={WIDE}\n\nId=tailscaled.service\n"
    shown += "DropInPaths=/run/systemd/system/service.d/c"
    assert in_force(shown, SERVERS) == [("ollama.service", WIDE)]
    assert in_force(shown, ("clients",)) == []


def test_a_role_that_comes_later_is_looked_at_then() -> None:
    claimed = frozenset(claim_file(("coordinator",), ()).split())
    places = claimed | {"/var/lib/ollama"}
    assert look(house=split(), host="hub", claimed=claimed, places=places)[0] == []
    problems, _ = look(claimed=claimed, places=places)
    assert len(problems) == 1 and "/var/lib/ollama" in problems[0]


def test_the_note_only_grows() -> None:
    both = claim_file(("coordinator",), claim_file(("model_hosts",), ()).split()).split()
    assert "/var/lib/ollama" in both and "/var/lib/headscale" in both and both == sorted(both)


def test_another_role_s_program_is_none_of_ours() -> None:
    login = Login("ollama", 995, "/usr/share/ollama", "/bin/false")
    places = {"/etc/systemd/system/ollama.service"}
    assert look(house=split(), host="hub", logins=(login,), places=places) == ([], [])


def test_every_place_that_a_component_writes_to_is_claimed() -> None:
    for module in (headscale, ollama, openclaw, tailscale):
        paths = [value for name, value in vars(module).items() if name.isupper() and str(value).startswith("/")]
        assert len(paths) > 2
        for path in paths:
            # These two folders belong to the house by their names.
            if not path.startswith(("/etc/private-ai/", "/var/lib/private-ai/")):
                places = {place for claim in CLAIMS for place in claim.places}
                assert any(path == place or path.startswith(f"{place}/") for place in places), path


def test_the_script_looks_at_every_place_and_account() -> None:
    for claim in CLAIMS:
        for place in (*claim.places, *claim.shadows):
            assert f" {place} " in SCRIPT.replace(";", " ")
    assert CLAIMED in SCRIPT and all(name in SCRIPT for name in ACCOUNTS)
    assert {claim.name for claim in claims_of(("clients",))} == {"Tailscale"}


NGINX = listening(("tcp", "0.0.0.0", 80, "nginx", "nginx.service"), ("tcp", "::", 80, "nginx", "nginx.service"))


def test_a_program_that_the_firewall_would_shut_off_is_named_with_both_ways_on() -> None:
    problems, warnings = look(NGINX)
    assert len(problems) == 1
    for word in (
        "nginx (nginx.service)",
        "listening on 80/tcp'",
        "'to': 'coordinator', 'port': '80/tcp'",
        "['80/tcp']",
    ):
        assert word in problems[0]
    assert "nginx (nginx.service)" in warnings[0] and len(warnings) == 1


@pytest.mark.parametrize(
    "data",
    [
        with_row("80/tcp"),
        with_row("80/tcp", to="gateway"),
        with_row("80/tcp", **{"from": "clients", "over": "vpn"}),
        {"firewall_shut_off": ["80/tcp"]},
    ],
)
def test_a_program_in_the_table_or_given_up_passes(data: dict[str, Any]) -> None:
    problems, warnings = look(NGINX, single(**data))
    assert problems == [] and "can answer but not ask: nginx (nginx.service)" in warnings[0]


def test_a_row_for_other_hosts_or_another_protocol_does_not_help() -> None:
    assert len(look(NGINX, single(**with_row("80/tcp", to="clients")))[0]) == 1
    assert len(look(NGINX, single(**with_row("80/udp")))[0]) == 1
    assert len(look(NGINX, single(firewall_shut_off=["80/udp"]))[0]) == 1


NFS = replace(HERE, outgoing=(Outgoing("NFS mount at /srv/photos", "nas", "192.168.1.5", ("2049/tcp",)),))
WAY_OUT = with_row("2049/tcp", **{"from": "model_hosts", "to": "192.168.1.5"})


def test_a_mount_that_would_not_come_back_is_refused_with_the_row_that_lets_it() -> None:
    problems, warnings = look(NFS)
    assert len(problems) == 1 and warnings == []
    for word in (
        "host home: NFS mount at /srv/photos",
        "nas (192.168.1.5), 2049/tcp",
        "'from': 'coordinator', 'to': '192.168.1.5', 'port': '2049/tcp', 'over': 'lan'",
    ):
        assert word in problems[0]
    assert look(NFS, single(**WAY_OUT)) == ([], [])
    # A person's computer may connect to any address.
    assert look(NFS, host="laptop") == ([], [])


@pytest.mark.parametrize(
    "row",
    [{"to": "192.168.1.6"}, {"port": "2049/udp"}, {"port": "445/tcp"}],
)
def test_a_row_to_elsewhere_does_not_bring_a_mount_back(row: dict[str, str]) -> None:
    rows = with_row(**{"port": "2049/tcp", "from": "coordinator", "to": "192.168.1.5", **row})
    assert len(look(NFS, single(**rows))[0]) == 1


def test_a_mount_that_came_after_the_first_run_is_told_with_each_run() -> None:
    problems, warnings = look(NFS, fenced=True)
    assert problems == [] and "add this row to access_table" in warnings[0] and len(warnings) == 1


def test_a_server_of_a_mount_must_be_known_without_asking() -> None:
    way = replace(NFS.outgoing[0], address="", asked=True)
    problems, _ = look(replace(HERE, outgoing=(way,)))
    assert "'to': 'ADDRESS OF nas'" in problems[0]
    assert "/etc/hosts: ADDRESS nas" in problems[1] and len(problems) == 2
    way = replace(NFS.outgoing[0], asked=True)
    [problem] = look(replace(HERE, outgoing=(way,)), single(**WAY_OUT))[0]
    assert "/etc/hosts: 192.168.1.5 nas" in problem


def test_a_mount_that_needs_many_ports_cannot_be_let_out() -> None:
    [problem] = look(replace(HERE, outgoing=(Outgoing("Ceph mount at /c", "10.0.0.1:6789", "", (), True),)))[0]
    assert "Ceph mount at /c" in problem and "give it up" in problem


def resolver(process: str, account: int | None, *at: str) -> Profile:
    """A host with a name server."""
    unit = f"{process}.service"
    mine = [Listener("udp", each, 53, process, unit, account) for each in at or ("127.0.0.1",)]
    return replace(HERE, listeners=(*HERE.listeners, *mine))


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        # Also a name server that only this host uses.
        (
            resolver("AdGuardHome", 0),
            [
                "host home: AdGuardHome (AdGuardHome.service) is 'a name server on 53/udp of 127.0.0.1 that runs as",
                "runs as root'; accepted: one that a server's firewall lets ask",
                "'to': 'ADDRESS THAT IT ASKS', 'port': '853/tcp', 'over': 'lan'",
                "User= and AmbientCapabilities=CAP_NET_BIND_SERVICE",
            ],
        ),
        (resolver("nextdns", 0), ["runs as root", "'port': '443/tcp'", "one for each address"]),
        (resolver("cloudflared", 999), ["asks over HTTPS as account 999", "such as systemd-resolved with DNSOverTLS"]),
        (resolver("dnscrypt-proxy", 61200), ["asks over HTTPS as account 61200"]),
        (resolver("coredns", 1000), ["runs as account 1000", "adduser --system"]),
    ],
)
def test_a_name_server_that_would_be_cut_off_is_refused_with_a_way_out(profile: Profile, words: list[str]) -> None:
    problems, _ = look(profile)
    assert len(problems) == 1
    for word in (*words, "or stop it, and name another in /etc/resolv.conf", "Next: "):
        assert word in problems[0]
    # If the name server was installed after the first run, each run warns of it.
    later, warnings = look(profile, fenced=True)
    assert later == [] and words[0].partition(" is ")[2] in warnings[0]


@pytest.mark.parametrize(
    "profile",
    [
        resolver("unbound", 110),
        resolver("stubby", 61300),
        resolver("systemd-resolve", 991, "127.0.0.53"),
        # These are a name server for virtual machines and containers, one in a container, and one of an unknown
        # account.
        resolver("aardvark-dns", 0, "10.88.0.1"),
        resolver("docker-proxy", 0),
        resolver("AdGuardHome", None),
    ],
)
def test_a_name_server_that_goes_on_is_no_matter(profile: Profile) -> None:
    assert [each for each in look(profile)[0] if "name server" in each] == []


def test_rows_let_a_name_server_of_root_ask() -> None:
    lan = next(address for address in single().member("home").addresses if "." in address)
    assert any("name server" in each for each in look(resolver("AdGuardHome", 0, lan))[0])
    row = {"id": "names", "from": "coordinator", "to": "9.9.9.9", "port": "443/tcp", "over": "lan", "why": "-"}
    house = single(access_table=[*SETTINGS["access_table"], row])
    assert not any("name server" in each for each in look(resolver("AdGuardHome", 0, lan), house=house)[0])


def test_after_the_first_run_nothing_more_is_lost() -> None:
    assert look(NGINX, fenced=True) == ([], [])


@pytest.mark.parametrize(
    "listener",
    [
        ("tcp", "127.0.0.1", 25, "exim4", "exim4.service"),
        ("udp", "::1", 323, "chronyd", "chrony.service"),
        ("udp", "0.0.0.0", 68, "dhclient", "networking.service"),
        ("udp", "192.168.1.10", 68, "systemd-network", "systemd-networkd.service"),
        ("udp", "fe80::1", 546, "NetworkManager", "NetworkManager.service"),
        ("tcp", "*", 5355, "systemd-resolve", "systemd-resolved.service"),
        ("udp", "0.0.0.0", 5353, "avahi-daemon", "avahi-daemon.service"),
        ("udp", "224.0.0.251", 5353, "chrome", "app-chrome.scope"),
        ("udp", "0.0.0.0", 41234, "firefox", "app-firefox.scope"),
        ("tcp", "0.0.0.0", 111, "systemd", "rpcbind.socket"),
        ("tcp", "*", 22, "sshd", "ssh.service"),
        ("tcp", "100.64.0.1", 36123, "tailscaled", "tailscaled.service"),
        ("udp", "239.1.2.3", 4000, "player", "player.service"),
    ],
)
def test_what_a_fresh_debian_has_is_no_matter(listener: tuple[str, str, int, str, str]) -> None:
    assert look(listening(listener)) == ([], [])
    assert look(listening(listener), host="laptop") == ([], [])


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        (("tcp", "192.168.122.1", 53, "dnsmasq", "libvirtd.service"), "dnsmasq (libvirtd.service)"),
        (("udp", "0.0.0.0", 123, "chronyd", "chrony.service"), "chronyd (chrony.service)"),
        (("udp", "192.168.1.10", 53, "systemd-resolve", "systemd-resolved.service"), "listening on 53/udp"),
        (("tcp", "192.168.1.10", 53, "systemd-resolve", "systemd-resolved.service"), "listening on 53/tcp"),
        (("udp", "0.0.0.0", 67, "systemd-network", "systemd-networkd.service"), "listening on 67/udp"),
        (("udp", "*", 51820, "", ""), "a program the kernel does not name (no unit)"),
        (("tcp", "*", 2222, "sshd", "ssh.service"), "sshd (ssh.service)"),
        (("tcp", "*", 9090, "systemd", "cockpit.socket"), "systemd (cockpit.socket)"),
        (("tcp", "0.0.0.0", 41234, "java", "game.service"), "java (game.service)"),
        (("udp", "0.0.0.0", 27015, "srcds", "game.service"), "srcds (game.service)"),
    ],
)
def test_what_others_come_to_is_named(listener: tuple[str, str, int, str, str], said: str) -> None:
    problems, _ = look(listening(listener), host="laptop")
    assert len(problems) == 1 and said in problems[0]


def test_an_sshd_on_another_port_stays_for_admin_networks_alone() -> None:
    # A row from `lan` would allow the whole network.
    (problem,), _ = look(listening(("tcp", "*", 2222, "sshd", "ssh.service")), host="laptop")
    assert "give row 'ssh' of access_table the port '2222/tcp'" in problem
    assert "'lan'" not in problem and "firewall_shut_off" not in problem


def test_an_ollama_of_a_host_that_is_no_model_host_is_a_program_like_others() -> None:
    profile = listening(("tcp", "*", 11434, "ollama", "ollama.service"))
    assert "ollama (ollama.service)" in look(profile, host="laptop")[0][0]


def test_clients_keep_their_way_out_and_hear_no_warning() -> None:
    assert look(NGINX, single(**with_row("80/tcp")), host="laptop") == ([], [])


def test_ufw_is_refused_with_the_commands_that_open_it() -> None:
    problems, _ = look(chains=chains("ufw"))
    assert len(problems) == 1
    said = problems[0]
    assert said.startswith("host home: ufw is 'refusing 443/tcp (headscale), 3478/udp (stun), 41641/udp (wireguard), ")
    assert "18789/tcp over tailscale0 (openclaw)" in said and "22/tcp" not in said
    assert said.endswith(
        "Next: on the host: ufw allow 443/tcp; ufw allow 3478/udp; ufw allow 41641/udp; "
        "ufw allow in on tailscale0 to any port 18789 proto tcp"
    )
    # A model host on its own host is asked over the VPN. If it is on the gateway's host, it is not.
    brain = replace(HERE, addresses=(("eth0", "10.77.0.13/24"), ("eth0", "fd4c:4142:77::13/64")))
    assert "11434/tcp over tailscale0 (ollama)" in look(brain, split(), "brain", chains=chains("ufw"))[0][0]


def test_ufw_that_denies_what_goes_out_is_refused_too() -> None:
    text = (
        (RECORDED / "ufw.txt")
        .read_text()
        .replace("hook output priority filter; policy accept", "hook output priority 0; policy drop")
    )
    for state in ("ip protocol tcp", "ip protocol udp", "meta l4proto tcp", "meta l4proto udp"):
        text = text.replace(f"{state} ct state new counter packets 0 bytes 0 accept", "")
    laptop = replace(HERE, addresses=(("wlan0", "10.77.0.20/24"),))
    said = look(laptop, host="laptop", chains=parse(text.splitlines()))[0][0]
    assert "443/tcp on its way out (headscale)" in said and "ufw allow out 3478/udp" in said
    assert "ufw allow out on tailscale0 to any port 18789 proto tcp" in said


def test_firewalld_is_refused_with_the_commands_that_open_it() -> None:
    said = look(host="laptop", chains=chains("firewalld"))[0][0]
    assert said.endswith("on the host: firewall-cmd --permanent --add-port=41641/udp; firewall-cmd --reload")


def test_a_filter_without_a_known_owner_is_named_by_table_and_chain() -> None:
    rules = ["table inet mine {", "chain in {", "type filter hook input priority 0; policy drop;", "}", "}"]
    said = look(host="laptop", chains=parse(rules))[0][0]
    assert "host laptop: table inet mine" in said
    assert "add 'udp dport 41641 accept' to chain in of table inet mine" in said


def test_docker_without_published_ports_passes_with_a_warning_on_servers() -> None:
    text = "\n".join(line for line in (RECORDED / "docker.txt").read_text().splitlines() if "dnat" not in line)
    problems, warnings = look(chains=parse(text.splitlines()))
    assert problems == [] and "can answer but not ask: Docker" in warnings[0] and "published" in warnings[1]
    assert look(host="laptop", chains=parse(text.splitlines())) == ([], [])


PROXY = listening(
    ("tcp", "0.0.0.0", 8080, "docker-proxy", "docker.service"), ("tcp", "127.0.0.1", 8081, "docker-proxy", "")
)


def test_a_published_port_is_refused_until_the_table_has_it() -> None:
    problems, _ = look(PROXY, chains=chains("docker"))
    assert len(problems) == 1
    for word in (
        "port 8080/tcp",
        "172.17.0.2:80 by Docker, past the house's firewall",
        "127.0.0.1",
        "'port': '8080/tcp'",
    ):
        assert word in problems[0]
    assert look(PROXY, single(**with_row("8080/tcp")), chains=chains("docker"))[0] == []
    # The house cannot shut this port off. A row for the VPN only would be wrong, because the port is open to the LAN.
    assert len(look(PROXY, single(firewall_shut_off=["8080/tcp"]), chains=chains("docker"))[0]) == 1
    vpn = {"from": "clients", "over": "vpn"}
    assert len(look(PROXY, single(**with_row("8080/tcp", **vpn)), chains=chains("docker"))[0]) == 1
    # The row would promise that only administrators reach the port, but the whole network does.
    [problem] = look(PROXY, single(**with_row("8080/tcp", **{"from": "admin"})), chains=chains("docker"))[0]
    assert "'from': 'lan'" in problem


def test_a_published_port_is_asked_of_ufw_only_where_it_is_not_passed_on() -> None:
    def said(addresses: list[str], *names: str) -> str:
        house = single(**with_row("8080/tcp"))
        laptop = house.member("laptop")
        house = replace(house, members=(replace(house.member("home"), addresses=tuple(addresses)), laptop))
        return look(house=house, chains=tuple(chain for name in names for chain in chains(name)))[0][0]

    assert "8080/tcp" in said(["10.77.0.11"], "ufw")
    assert "8080/tcp" not in said(["10.77.0.11"], "ufw", "docker")
    # Docker does not pass on IPv6. Its proxy listens there, so ufw decides.
    assert "8080/tcp" in said(["10.77.0.11", "fd4c:4142:77::11"], "ufw", "docker")


def test_a_port_that_is_published_later_is_a_warning() -> None:
    problems, warnings = look(PROXY, chains=chains("docker"), fenced=True)
    assert problems == [] and len(warnings) == 1 and "8080/tcp" in warnings[0]


def test_a_published_port_that_the_house_needs_is_refused_always() -> None:
    text = (RECORDED / "docker.txt").read_text().replace("dport 8080", "dport 443")
    for fenced in (False, True):
        problems, _ = look(chains=parse(text.splitlines()), fenced=fenced)
        assert len(problems) == 1 and "port 443/tcp" in problems[0] and "keys, names, relay" in problems[0]


def test_all_is_told_at_once() -> None:
    problems, _ = look(
        NGINX,
        places={"/etc/headscale", "/usr/local/bin/ollama"},
        groups={"openclaw"},
        chains=(*chains("ufw"), *chains("netavark")),
    )
    assert len(problems) == 2 + 1 + 1 + 3 + 1


def test_the_note_is_written_once_and_costs_later_runs_nothing() -> None:
    inner: Any = claims.claimed._inner
    places = claim_file(SERVERS, ())
    with context(Fake("home", {}), {}):
        (command,) = inner(places, frozenset())
        assert CLAIMED in str(command) and command.connector_arguments["_stdin"] == places
        assert list(inner(places, frozenset(places.split()))) == []
        assert len(list(inner(places, frozenset(places.split()[1:])))) == 1


def test_names_that_command_a_terminal_are_shown_harmless() -> None:
    """Every account on a host can choose a program's name. root can choose the names of tables."""
    rules = ["table inet x\x1b[2J {", "chain in\x1b[2J {", "type filter hook input priority 0; policy drop;", "}", "}"]
    problems, warnings = look(listening(("tcp", "*", 80, "a\x1b[2J\u202e", "b\x07.service")), chains=parse(rules))
    assert len(problems) == 2 and len(warnings) == 1
    for said in (*problems, *warnings):
        assert said.isprintable(), said
