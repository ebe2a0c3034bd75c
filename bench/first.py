"""A first deployment of bare hosts, beside the sum of what it cannot do without."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from artifacts.store import Program, find_program
from bench.measure import Bench, BenchError, Figure, Row, told

#: Noise, which nothing on the way can compress, to find out how fast the link is.
NOISE_MIB = 200
RECEIVED = "cat /sys/class/net/host0/statistics/rx_bytes"
FETCHED = "du -sb /var/cache/apt/archives | cut -f1"
#: What the deployment had apt install.
INSTALLED = "sed -n 's/^Commandline: .* install //p' /var/log/apt/history.log | head -n 1"
#: On the gateway, which is also the coordinator and the model host: each part again, in seconds.
AGAIN = """
set -e; cd /
own='systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect'
from=0; begin() { from=$(date +%s.%N); }
end() { echo "$1|$(echo "$(date +%s.%N) $from" | awk '{print $1 - $2}')"; }
until_it() { until "$@" >/dev/null 2>&1; do sleep 0.1; done; }
ready() { curl --silent --max-time 5 --resolve NAME:127.0.0.1 https://NAME/readyz | grep -q '"ready":true'; }
running() { tailscale status --json | grep -q '"BackendState": "Running"'; }

name=$($own podman ps --format '{{.Image}}')
systemctl --user --machine=openclaw@ stop openclaw
$own podman image rm --all --force >/dev/null
begin; loaded=$($own podman load --quiet <ARCHIVE); end 'image load'
$own podman tag "${loaded#Loaded image: }" "$name"
begin; systemctl --user --machine=openclaw@ start openclaw; until_it ready; end 'start of the gateway'
begin; systemctl restart private-ai-firewall; systemctl restart headscale
until_it curl --silent --fail http://127.0.0.1:9090/health; systemctl restart tailscaled; until_it running
systemctl restart ollama; until_it curl --silent --fail http://127.0.0.1:11434/api/version; end 'start of the others'
model=$(curl --silent http://127.0.0.1:11434/api/tags | sed 's/.*"name":"\\([^"]*\\)".*/\\1/')
begin
curl --silent --fail http://127.0.0.1:11434/api/generate -d "{\\"model\\":\\"$model\\"}" >/dev/null; end 'model load'
rm ARCHIVE
"""
ARCHIVE = "/var/lib/private-ai/bench.tar"
PARTS = (
    "packages",
    "bytes over the link",
    "image load",
    "start of the gateway",
    "start of the others",
    "model load",
)


def rows(bench: Bench, runs: int, work: Path) -> list[Row]:
    """Bare hosts, programs in the cache: the deployment, and each of its parts again by itself on the same hosts."""
    whole: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in PARTS}
    image = _image()
    archive = image.directory / image.files[0].path
    noise = work / "noise"
    noise.write_bytes(os.urandom(NOISE_MIB << 20))
    for number in range(runs):
        bench.down()
        bench.up()
        before = int(bench.ssh("home", RECEIVED))
        whole.append(bench.pyinfra(bench.inventory, "deploy.py")[0])
        sent = int(bench.ssh("home", RECEIVED)) - before - int(bench.ssh("home", FETCHED))
        taken = _parts(bench, archive, noise, sent)
        for name in PARTS:
            parts[name].append(taken[name])
        told.print(f"{number + 1}/{runs} deployment: {whole[-1]:.1f} s, its parts: {sum(taken.values()):.1f} s")
    deployment = Figure("deployment", "s", tuple(whole))
    figures = {name: Figure(name, "s", tuple(values)) for name, values in parts.items()}
    critical = sum(figure.median for figure in figures.values())
    size, load = archive.stat().st_size / 1e6, figures["image load"]
    against = (deployment, *figures.values())
    return [
        Row("first deployment against the sum of its parts", deployment.median / critical, "x", 1.5, against),
        Row("image to send", size, " MB", 300, (Figure("archive", "MB", (size,)),)),
        Row("image to load", load.median, " s", 15, (load,)),
    ]


def _image() -> Program:
    cpu = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    if found := find_program("openclaw", cpu):
        return found
    raise BenchError("the gateway's image is not in the cache; next: lab/prepare")


def _parts(bench: Bench, archive: Path, noise: Path, sent: int) -> dict[str, float]:
    """Seconds of each part, after a deployment that sent so many bytes to `home`."""

    def send(file: Path, to: str) -> float:
        return bench.timed("sh", "-c", f"lab/ssh home 'cat >{to}' <{file}")[0]

    link = send(noise, "/dev/null") / noise.stat().st_size
    send(archive, ARCHIVE)
    names = bench.ssh("home", INSTALLED).strip()
    # The stranger is as bare as the others were.
    install = f"export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install --yes {names}"
    taken = {
        "packages": bench.timed("lab/ssh", "stranger", f"({install}) >/dev/null 2>&1")[0],
        "bytes over the link": link * sent,
    }
    script = AGAIN.replace("ARCHIVE", ARCHIVE).replace("NAME", "home.vpn.house.internal:18789")
    for line in bench.run("lab/ssh", "home", "sh -s", input=script).stdout.splitlines():
        name, _, seconds = line.rpartition("|")
        if name in PARTS:
            taken[name] = float(seconds)
    return taken
