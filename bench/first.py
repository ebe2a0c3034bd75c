"""Measures a first deployment to empty hosts, and compares it with the sum of its necessary parts, each measured alone
on the same hosts."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from artifacts.packages import this_cpu
from artifacts.store import find_program
from bench.measure import Bench, BenchError, Figure, Row, ratio, told
from bench.message import GATEWAY, Answers, answers_after, first_answers
from facts.engine.component_state import through_manager, unit_call
from plan.openclaw.configuration import ACCOUNT

#: A host of the lab to which nothing is deployed.
BARE = "stranger"
NOISE_MIB = 200
#: The necessary parts of a first deployment, on the host that is coordinator, gateway and model host.
PARTS = (
    "packages",
    "bytes sent at the link's speed",
    "starts of the services",
    "model load",
    "image load",
    "start of the gateway",
    "its first message",
)
#: Prints the milliseconds that a command takes.
TIMER = 't() { s=$(date +%s%N); eval "$1" >/dev/null || exit 1; echo $(( ($(date +%s%N) - s) / 1000000 )); }\n'


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """First deployments of `single`, and the first answers after them."""
    deployed: list[float] = []
    answers: list[Answers] = []
    parts: list[list[float]] = []
    archive = _archive()
    for _ in range(runs):
        bench.down()
        bench.up()
        before = _received(bench)
        deployed.append(bench.pyinfra(bench.inventory, "deploy.py")[0])
        sent = _received(bench) - before - _fetched(bench)
        answers.append(answers_after(bench))
        parts.append(_parts(bench, sent, archive, work))
        told.print(
            f"deployed in {deployed[-1]:.1f} s; {dict(zip(PARTS, map('{:.1f}'.format, parts[-1]), strict=True))}"
        )
    path = Figure("sum of its parts", "s", tuple(sum(each) for each in parts))
    of_parts = tuple(Figure(name, "s", tuple(each[at] for each in parts)) for at, name in enumerate(PARTS))
    deployment = ratio(
        "first deployment against the sum of its parts", Figure("deployment", "s", tuple(deployed)), path, 1.5
    )
    loads = of_parts[PARTS.index("image load")]
    megabytes = archive.stat().st_size / 1e6
    return [
        replace(deployment, figures=(*deployment.figures, *of_parts)),
        Row("image to send", megabytes, " MB", 300, (Figure("archive", "MB", (megabytes,)),)),
        Row("image load", loads.median, " s", 15, (loads,)),
        first_answers("a deployment", answers),
    ]


def _archive() -> Path:
    found = find_program("openclaw", this_cpu())
    if found is None:
        raise BenchError("the image of OpenClaw is not in the cache")
    return found.directory / found.files[0].path


def _received(bench: Bench) -> float:
    """Bytes that the gateway's host has received on its LAN."""
    return float(bench.ssh(GATEWAY, "cat /sys/class/net/host0/statistics/rx_bytes"))


def _fetched(bench: Bench) -> float:
    """Bytes of the packages that the host itself has downloaded."""
    return float(bench.ssh(GATEWAY, "cat /var/cache/apt/archives/*.deb | wc -c"))


def _parts(bench: Bench, sent: float, archive: Path, work: Path) -> list[float]:
    """The seconds of PARTS, in their order, measured on a house that has just been deployed."""
    seconds = {"packages": _packages(bench), "bytes sent at the link's speed": sent / _speed(bench, work)}
    services = (
        "systemctl restart private-ai-firewall",
        "systemctl restart headscale; until headscale users list; do sleep 0.1; done",
        "systemctl restart tailscaled; until tailscale ip -4; do sleep 0.1; done",
        "systemctl restart ollama; until curl -sf http://127.0.0.1:11434/api/version; do sleep 0.1; done",
    )
    seconds["starts of the services"] = sum(_timed(bench, command) for command in services)
    model = bench.ssh(GATEWAY, "ollama list | awk 'NR==2 {print $1}'").strip()
    asked = f'curl -sf http://127.0.0.1:11434/api/generate -d \'{{"model": "{model}", "prompt": ""}}\''
    seconds["model load"] = _timed(bench, asked)

    there = "/var/tmp/bench-image"
    with archive.open("rb") as file:
        subprocess.run(["lab/ssh", GATEWAY, f"cat >{there}"], stdin=file, env=bench.env, check=True)
    image = bench.ssh(GATEWAY, _podman("ps --format '{{.Image}}'")).strip()
    stop = unit_call(ACCOUNT, "stop openclaw.service")
    # `sync`: the disk has removed the old image before the measurement begins. The deployment had no image to remove.
    bench.ssh(GATEWAY, f"{stop}; {_podman('image rm --all --force')} >/dev/null; sync")
    seconds["image load"] = _timed(bench, f"{_podman('load --quiet')} <{there}")
    loaded = bench.ssh(GATEWAY, _podman("images --format '{{.Repository}}:{{.Tag}}'")).split()[0]
    bench.ssh(GATEWAY, f"{_podman(f'tag {shlex.quote(loaded)} {shlex.quote(image)}')}; rm {there}")
    ready = "curl -s --resolve home.vpn.house.internal:18789:127.0.0.1 https://home.vpn.house.internal:18789/readyz"
    start = unit_call(ACCOUNT, "start openclaw.service")
    seconds["start of the gateway"] = _timed(
        bench, f"{start}; until {ready} | grep -q '\"ready\":true'; do sleep 0.1; done"
    )
    seconds["its first message"] = _timed(bench, unit_call(ACCOUNT, "start openclaw-warm.service"))
    return [seconds[part] for part in PARTS]


def _podman(words: str) -> str:
    return through_manager(ACCOUNT, f"podman {words}")


def _timed(bench: Bench, command: str) -> float:
    return float(bench.ssh(GATEWAY, f"{TIMER}t {shlex.quote(command)}")) / 1000


def _packages(bench: Bench) -> float:
    """Seconds to install the packages of the deployment on a host that does not have them."""
    lines = bench.ssh(GATEWAY, "sed -n 's/^Commandline: //p' /var/log/apt/history.log").splitlines()
    installs = [line for line in lines if " install " in line and "--no-install-recommends" in line]
    if not installs:
        raise BenchError(f"no packages were installed on {GATEWAY}")
    script = "apt-get -qq update >/dev/null; " + "; ".join(
        f"DEBIAN_FRONTEND=noninteractive {line}" for line in installs
    )
    return bench.timed("lab/ssh", BARE, f"{{ {script}; }} >/dev/null 2>&1")[0]


def _speed(bench: Bench, work: Path) -> float:
    """Bytes a second over SSH to the gateway's host, measured with data that cannot be compressed."""
    noise = work / "noise"
    noise.write_bytes(os.urandom(NOISE_MIB * 2**20))
    seconds, _ = bench.timed("sh", "-c", f"lab/ssh {GATEWAY} 'cat >/dev/null' <{shlex.quote(str(noise))}")
    noise.unlink()
    return NOISE_MIB * 2**20 / seconds
