"""Every refusal and warning before a run, one change to a good host at a time."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from plan.base.capabilities import FOLDERS, Disk, Machine
from plan.base.preflight import NeededPort, check_host, idle_ssh_rows
from plan.base.profile import Beside, Listener, Profile
from tests.unit import houses

GOOD = Profile(
    hostname="home",
    os_id="debian",
    os_version_id="13",
    os_pretty="Debian GNU/Linux 13 (trixie)",
    cpu="amd64",
    cpus=4,
    ram_mib=15900,
    clock=1.8e9,
    clock_skew_s=0.4,
    systemd=True,
    systemd_version=257,
    cgroup_controllers=frozenset({"cpu", "memory", "pids"}),
    kernel="6.12.48+deb13-amd64",
    addresses=(("lo", "127.0.0.1/8"), ("host0", "192.168.1.10/24"), ("tailscale0", "100.64.0.1/32")),
    default_routes=(("host0", "192.168.1.1"),),
    listeners=(Listener("tcp", "*", 22, "sshd", "ssh.service"),),
    gpus=(),
    vram_mib=0,
    apt_proxies=(),
    apt_mirrors=("http://mirror.example/debian",),
    ssh_client="192.168.1.2",
    ssh_port=22,
    machine_id="00112233445566778899aabbccddeeff",
    reboot_required=False,
    firewall_tried=False,
    firewall_unconfirmed="",
    firewall_taken_back="",
    stamp="",
    machine=Machine(disks=tuple(Disk(folder, "/dev/sda", 50_000) for folder in FOLDERS)),
)
ALL_ROLES = ("coordinator", "gateway", "model_hosts")
PORTS = (
    NeededPort("tcp", 443, ("headscale.service",), "Headscale"),
    NeededPort("udp", 3478, ("headscale.service",), "STUN"),
    NeededPort("tcp", 11434, ("ollama.service", "ollama-vpn.socket"), "Ollama"),
)


def held(proto: str, port: int, process: str, unit: str) -> dict[str, Any]:
    return {"listeners": (*GOOD.listeners, Listener(proto, "0.0.0.0", port, process, unit))}  # type: ignore[arg-type]


def machine(**change: Any) -> dict[str, Any]:
    return {"machine": replace(GOOD.machine, **change)}


def disks(free_mib: int = 50_000, **other: int) -> dict[str, Any]:
    """All folders are on one disk with so much free space, except those of `other`, which have disks of their own."""
    own = {folder: other[key] for folder in FOLDERS if (key := re.sub("[/-]", "_", folder)) in other}
    assert len(own) == len(other)
    return machine(
        disks=tuple(
            Disk(folder, folder if folder in own else "/dev/sda", own.get(folder, free_mib)) for folder in FOLDERS
        )
    )


def check(roles: tuple[str, ...] = ALL_ROLES, **change: Any) -> tuple[list[str], list[str]]:
    problems, warnings = check_host("home", roles, replace(GOOD, **change), needed_ports=PORTS)
    return [str(problem) for problem in problems], warnings


def test_a_good_host_passes_silently() -> None:
    assert check() == ([], [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"os_version_id": "12", "os_pretty": "Debian 12"}, ["host home: os", "'Debian 12'", "Debian 13"]),
        ({"os_id": "fedora", "os_pretty": "Fedora 42"}, ["os", "Fedora 42"]),
        ({"os_id": "ubuntu", "os_version_id": "22.04", "os_pretty": "Ubuntu 22.04"}, ["Ubuntu 22.04"]),
        ({"cpu": "riscv64"}, ["cpu", "riscv64", "amd64 or arm64"]),
        ({"systemd": False}, ["systemd", "PID 1"]),
        (machine(tun_trouble="missing"), ["/dev/net/tun", "'missing'", "modprobe tun"]),
        (machine(tun_trouble="Operation not permitted"), ["/dev/net/tun", "not permitted", "pct set ID --dev0"]),
        (
            machine(nft_trouble="netlink: Error: cache initialization failed: Protocol not supported"),
            ["nftables is 'netlink: Error: cache", "restart the host", "kernel.modules_disabled"],
        ),
        (machine(sandbox_trouble="unshare: Permission denied"), ["file systems", "unshare: Per", "nesting=1"]),
        (machine(ids=((0, 65535),)), ["user numbers", "'0 to 65535'", "100000 to 165535", "lxc.idmap"]),
        (machine(ids=((0, 99_999), (100_000, 165_534))), ["user numbers", "0 to 99999, 100000 to 165534"]),
        (machine(switches={"user.max_user_namespaces": 0}), ["user.max_user_namespaces is 0", "sysctl -w"]),
        (
            machine(switches={"kernel.unprivileged_userns_clone": 0}),
            ["kernel.unprivileged_userns_clone is 0", "unprivileged_userns_clone=1"],
        ),
        # DietPi has this.
        (
            machine(podman_store='rootless_storage_path = "/data/$USER"'),
            ["/etc/containers/storage.conf", "/data/$USER", "~/.config/containers/storage.conf"],
        ),
        (
            machine(package_trouble="dpkg: dependency problems prevent configuration of x: x depends on y; however:"),
            ["host home: packages is 'dpkg: dependency problems", "x depends on y", "--fix-broken install"],
        ),
        (machine(masked=("systemd-logind.service",)), ["masked units", "systemctl unmask systemd-logind.service"]),
        ({"clock_skew_s": 61.0}, ["clock", "+61 s"]),
        ({"clock_skew_s": -3600.0}, ["clock", "-3600 s"]),
        # A machine without a battery begins in 1970. There, no certificate and no list of apt would be valid yet.
        (
            {"clock": 200.0, "clock_skew_s": -1.8e9},
            ['clock is "1970-01-01 00:03 UTC, -1800000000 s from this', "set-ntp true"],
        ),
        ({"clock": 1e300, "clock_skew_s": 1e300}, ['clock is "no date, ']),
        ({"ram_mib": 1800}, ["RAM", "1800 MiB"]),
        (
            disks(11_199),
            [
                "disk at /var/lib and /opt and /var/lib/openclaw and /var/lib/private-ai/incoming and /usr and "
                "/var/cache",
                "11199 MiB free",
                "11200 MiB",
            ],
        ),
        # There must be space for the largest program and its copy.
        (disks(_var_lib_private_ai_incoming=64), ["/var/lib/private-ai/incoming is", "64 MiB free", "128 MiB"]),
        # Debian's installer offers small file systems of their own. apt puts packages on them.
        (disks(_usr=300), ["disk at /usr is", "300 MiB free", "320 MiB", "Next: free disk space or enlarge"]),
        (disks(_var_cache=100), ["disk at /var/cache is", "100 MiB free", "256 MiB"]),
        (disks(_opt=100), ["disk at /opt is", "100 MiB free", "2048 MiB"]),
        (
            disks(_var_lib_openclaw=100),
            ["disk at /var/lib/openclaw is", "100 MiB free", "5120 MiB", "a folder of one at /var/lib/openclaw"],
        ),
        (held("tcp", 443, "nginx", "nginx.service"), ["port 443/tcp", "nginx (nginx.service)", "Headscale"]),
        (held("tcp", 443, "", ""), ["port 443/tcp", "does not name", "no unit"]),
        (held("udp", 3478, "coturn", "coturn.service"), ["port 3478/udp", "coturn"]),
        (
            {"addresses": (("eth1", "100.100.1.5/24"),)},
            ["address on eth1", "100.100.1.5/24", "100.64.0.0/10"],
        ),
        ({"addresses": (("eth1", "100.0.0.9/8"),)}, ["address on eth1"]),
        ({"addresses": (("eth1", "fd7a:115c:a1e0::9/64"),)}, ["address on eth1", "fd7a:115c:a1e0::/48"]),
    ],
)
def test_each_problem_names_value_and_remedy(change: dict[str, Any], words: list[str]) -> None:
    problems, _ = check(**change)
    assert len(problems) == 1
    for word in words:
        assert word in problems[0]
    assert "Next: " in problems[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"os_id": "ubuntu", "os_version_id": "24.04"}, "Ubuntu 24.04 was not tried by the project"),
        ({"cpu": "arm64"}, "arm64 was not tried"),
        ({"cgroup_controllers": frozenset({"pids"})}, "MemoryMax"),
        ({"cgroup_controllers": frozenset({"memory"})}, "PidsLimit"),
        ({"reboot_required": True}, "reboot is pending"),
        (machine(switches={"kernel.apparmor_restrict_unprivileged_userns": 1}), "AppArmor lets only programs"),
        ({"firewall_unconfirmed": "2026-11-24 12:00:00 UTC"}, "2026-11-24 12:00:00 UTC, and no new SSH"),
        ({"firewall_taken_back": "2026-11-24 12:00:45 UTC"}, "taken back on 2026-11-24 12:00:45 UTC"),
    ],
)
def test_each_warning_lets_the_run_go_on(change: dict[str, Any], word: str) -> None:
    problems, warnings = check(**change)
    assert problems == []
    assert len(warnings) == 1
    assert warnings[0].startswith("host home: ")
    assert word in warnings[0]


@pytest.mark.parametrize(
    ("proto", "port", "unit"),
    [("tcp", 443, "headscale.service"), ("tcp", 11434, "ollama-vpn.socket"), ("udp", 443, "other.service")],
)
def test_ports_held_by_us_or_of_another_protocol_are_fine(proto: str, port: int, unit: str) -> None:
    assert check(**held(proto, port, "x", unit)) == ([], [])


NVIDIA = "Failed to initialize NVML: Driver/library version mismatch ended with 18"


def test_a_card_that_nvidia_smi_does_not_tell_is_a_warning_on_model_hosts() -> None:
    problems, warnings = check(**machine(card_trouble=NVIDIA))
    assert problems == [] and len(warnings) == 1 and NVIDIA in warnings[0] and "reboot it" in warnings[0]
    assert check(("clients",), **machine(card_trouble=NVIDIA)) == ([], [])
    problems, warnings = check(gpus=("NVIDIA GB10",))
    assert problems == [] and len(warnings) == 1 and "shows no memory of NVIDIA GB10" in warnings[0]


def test_a_model_that_runs_on_the_card_is_not_replaced_because_the_card_is_not_seen() -> None:
    record = '{"model": "qwen3:14b", "place": "PLACE"}'
    problems, _ = check(**machine(card_trouble=NVIDIA, model_record=record.replace("PLACE", "VRAM")))
    assert len(problems) == 1
    for words in ("answer of nvidia-smi", NVIDIA, "reboot the host", "rm /etc/private-ai/model.json"):
        assert words in problems[0]
    for other in (record.replace("PLACE", "RAM"), "", "[]", "what?"):
        assert check(**machine(card_trouble=NVIDIA, model_record=other))[0] == []


def test_only_a_gateway_needs_user_namespaces() -> None:
    shut = machine(
        ids=((0, 65535),), switches={"user.max_user_namespaces": 0, "kernel.apparmor_restrict_unprivileged_userns": 1}
    )
    assert check(("coordinator", "model_hosts"), **shut) == ([], [])


def test_a_disk_of_its_own_is_what_counts() -> None:
    assert check(**disks(3328 + 2048 + 128 + 320 + 256, _var_lib_openclaw=5120)) == ([], [])
    # First all folders are on one disk, then on several disks.
    assert check(("clients",), **disks(256 + 128 + 64 + 128)) == ([], [])
    assert check(("clients",), **disks(256, _var_lib_private_ai_incoming=128, _usr=64, _var_cache=128)) == ([], [])


def test_a_second_run_is_not_refused_for_the_disk_the_first_one_took() -> None:
    deployed = Beside(claimed=frozenset({"/var/lib/headscale"}))
    problems, warnings = check(**disks(3000), beside=deployed)
    assert problems == []
    assert "3000 MiB" in warnings[0]


@pytest.mark.parametrize(
    ("roles", "ram_mib", "passes"),
    [
        (("coordinator",), 470, True),
        (("coordinator",), 400, False),
        (("gateway",), 1400, True),
        (("coordinator", "gateway"), 1950, True),
        (("coordinator", "gateway"), 1400, False),
        (("model_hosts",), 2700, True),
        (("model_hosts",), 2000, False),
        (("clients",), 400, True),
    ],
)
def test_ram_by_role(roles: tuple[str, ...], ram_mib: int, passes: bool) -> None:
    problems, _ = check(roles, ram_mib=ram_mib)
    assert (problems == []) is passes


def test_all_problems_are_told_at_once() -> None:
    problems, _ = check(cpu="riscv64", clock_skew_s=900.0, **machine(tun_trouble="missing"))
    assert len(problems) == 3


ON_22, ON_2222 = (
    Listener("tcp", "*", 22, "sshd", "ssh.service"),
    Listener("tcp", "0.0.0.0", 2222, "sshd", "ssh.service"),
)
WAITS = Listener("tcp", "*", 22, "systemd", "ssh.socket")
LOCAL = Listener("tcp", "127.0.0.1", 22, "sshd", "ssh.service")
NGINX = Listener("tcp", "*", 22, "nginx", "nginx.service")
DROPBEAR = Listener("tcp", "*", 22, "dropbear", "dropbear.service")


@pytest.mark.parametrize(
    ("listeners", "came_in", "said"),
    [
        ((ON_22,), 22, None),
        ((ON_22, ON_2222), 2222, None),
        ((WAITS,), 22, None),
        ((WAITS, ON_2222), 2222, None),
        # It is not known where sshd listens, for example because it is in a container with another network.
        ((), 0, None),
        ((DROPBEAR,), 22, None),
        ((ON_2222,), 2222, "listens on 2222."),
        ((ON_2222, LOCAL), 2222, "listens on 2222."),
        ((ON_2222, NGINX), 2222, "listens on 2222."),
        # sshd also listens on a port that only a jump host uses.
        ((ON_2222, Listener("tcp", "::", 2200, "sshd-session", "sshd@x.service")), 2222, "listens on 2200, 2222."),
    ],
)
def test_a_row_for_ssh_where_no_sshd_listens_is_told(
    listeners: tuple[Listener, ...], came_in: int, said: str | None
) -> None:
    house = houses.single()
    found = idle_ssh_rows(house, house.member("home"), replace(GOOD, listeners=listeners, ssh_port=came_in))
    assert len(found) == (said is not None)
    for each in found:
        assert "row 'ssh' of access_table opens port 22/tcp" in each and str(said) in each and "Next: " in each


def test_each_row_for_ssh_that_leads_to_a_host_is_looked_at() -> None:
    more = {"id": "ssh-servers", "from": "admin", "to": "gateway", "port": "2222/tcp", "over": "lan", "why": "-"}
    house = houses.single(access_table=[*houses.SETTINGS["access_table"], more])
    home, laptop = (house.member(name) for name in ("home", "laptop"))
    assert "'ssh-servers'" in idle_ssh_rows(house, home, GOOD)[0]
    assert idle_ssh_rows(house, laptop, GOOD) == []
