"""Every refusal and warning before a run, one change to a good host at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plan.preflight import NeededPort, check_host
from plan.profile import Beside, Listener, Profile

GOOD = Profile(
    hostname="home",
    os_id="debian",
    os_version_id="13",
    os_pretty="Debian GNU/Linux 13 (trixie)",
    cpu="amd64",
    cpus=4,
    ram_mib=15900,
    var_lib_free_mib=50_000,
    opt_free_mib=50_000,
    clock=1.8e9,
    clock_skew_s=0.4,
    systemd=True,
    systemd_version=257,
    cgroup_controllers=frozenset({"cpu", "memory", "pids"}),
    kernel="6.12.48+deb13-amd64",
    tun=True,
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
)
ALL_ROLES = ("coordinator", "gateway", "model_hosts")
PORTS = (
    NeededPort("tcp", 443, ("headscale.service",), "Headscale"),
    NeededPort("udp", 3478, ("headscale.service",), "STUN"),
    NeededPort("tcp", 11434, ("ollama.service", "ollama-vpn.socket"), "Ollama"),
)


def held(proto: str, port: int, process: str, unit: str) -> dict[str, Any]:
    return {"listeners": (*GOOD.listeners, Listener(proto, "0.0.0.0", port, process, unit))}  # type: ignore[arg-type]


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
        ({"tun": False}, ["/dev/net/tun", "modprobe tun"]),
        ({"clock_skew_s": 61.0}, ["clock", "+61 s"]),
        ({"clock_skew_s": -3600.0}, ["clock", "-3600 s"]),
        ({"ram_mib": 1800}, ["RAM", "1800 MiB"]),
        ({"var_lib_free_mib": 8191}, ["/var/lib", "8191 MiB", "8192 MiB"]),
        ({"opt_free_mib": 100}, ["/opt", "100 MiB", "2048 MiB"]),
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
        ({"firewall_unconfirmed": "2026-11-24 12:00:00 UTC"}, "2026-11-24 12:00:00 UTC, which no new SSH"),
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


def test_a_second_run_is_not_refused_for_the_disk_the_first_one_took() -> None:
    deployed = Beside(claimed=frozenset({"/var/lib/headscale"}))
    problems, warnings = check(var_lib_free_mib=3000, beside=deployed)
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
    problems, _ = check(cpu="riscv64", tun=False, clock_skew_s=900.0)
    assert len(problems) == 3
