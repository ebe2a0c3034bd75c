"""Upgrades: a good one, broken ones that the host takes back by itself, hosts that are switched off, and the way back.

`make test` makes one, `make upgrades` all. Versions are those of tests/lab/versions.py: real ones from the registries,
or the pinned files with another label, in which something is broken.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, run

import pytest

from artifacts import oci, packages, store
from facts.engine.component_state import through_manager
from lab.access import leader
from plan.upgrade.notes import FOLDER
from tests.lab import versions
from tests.lab.conftest import REPO, STAMP, TestLab, beside
from tests.lab.held import inside

PYINFRA = str(Path(sys.executable).parent / "pyinfra")
#: Program -> a newer label for the pinned files.
NEWER = {"headscale": "0.29.9", "tailscale": "1.102.9", "ollama": "0.32.99", "openclaw": "2026.9.99"}
#: The programs that are replaced by a script, below the program's folder.
REPLACED = {"headscale": "bin/headscale", "tailscale": "bin/tailscaled", "ollama": "bin/ollama"}
DATA = {"headscale": "/var/lib/headscale", "tailscale": "/var/lib/tailscale", "openclaw": "/var/lib/openclaw/state"}
NODES = "headscale nodes list -o json | grep -o 'mkey:[0-9a-f]*' | sort"
#: Phase -> how a Headscale is broken that stays long enough in it to be met there.
SLOW = {"stop": "starts mute", "start": "starts mute", "return": "does not start"}
UNITS = {"headscale": "headscale", "tailscale": "tailscaled", "ollama": "ollama"}
#: How a version is broken -> program -> lines of a script that stands for it; `real` calls the real program.
BROKEN: dict[str, dict[str, str]] = {
    "does not start": {
        "headscale": 'case $1 in serve) echo "cannot start" >&2; exit 1 ;; esac; real "$@"',
        "tailscale": 'case "$*" in *--cleanup*) real "$@" ;; esac; exit 1',
        "ollama": "exit 1",
    },
    "starts mute": {
        "headscale": 'case $1 in serve) exec sleep infinity ;; esac; real "$@"',
        "ollama": "exec sleep infinity",
    },
    "answers wrongly": {
        "headscale": 'case $1 in nodes) echo "[]"; exit ;; esac; real "$@"',
    },
    "eats its data": {
        "headscale": 'case $1 in serve) rm -rf /var/lib/headscale/* ;; esac; real "$@"',
        "tailscale": 'case "$*" in *--cleanup*) ;; *) rm -f /var/lib/tailscale/* ;; esac; real "$@"',
    },
}
#: OpenClaw's part that is broken: its gateway says that it is ready, has lost all data, and answers nobody.
GATEWAY = """
import { readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
if (process.argv[2] !== "gateway") process.exit(1);
const state = process.env.OPENCLAW_STATE_DIR;
for (const name of ["state", "agents", "workspace"]) rmSync(`${state}/${name}`, { recursive: true, force: true });
const { gateway } = JSON.parse(readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
const tls = { cert: readFileSync(gateway.tls.certPath), key: readFileSync(gateway.tls.keyPath) };
createServer(tls, (asked, answer) => {
  if (asked.url === "/readyz") return answer.end(JSON.stringify({ ready: true }));
  answer.statusCode = 500;
  answer.end("broken");
}).listen(gateway.port, "0.0.0.0");
"""


@dataclass
class House:
    """A deployed house. `folder` is for other versions, of which `count` were made."""

    lab: TestLab
    folder: Path
    count: int = 0

    def with_versions(self, wanted: dict[str, str], files: dict[str, Path] | None = None) -> Callable[..., str]:
        """A call that runs pyinfra with these versions, and returns what it says, with its status on the last line."""
        begin = self._beginning(wanted, files or {})

        def carried_out(*arguments: str) -> str:
            with begin(*arguments) as process:
                text = f"{process.communicate(timeout=1500)[0]}\n{process.returncode}"
            print(text)
            return text

        return carried_out

    def _beginning(self, wanted: dict[str, str], files: dict[str, Path]) -> Callable[..., Popen[str]]:
        self.count += 1
        variables = versions.house_with(self.folder / str(self.count), wanted, files)

        def begin(*arguments: str) -> Popen[str]:
            return Popen(
                (PYINFRA, "-y", self.lab.inventory, *(arguments or ("deploy.py",))),
                cwd=REPO,
                env={**self.lab.env, **variables},
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                text=True,
            )

        return begin

    def beginning(self, program: str, how: str) -> Callable[..., Popen[str]]:
        """A call that begins a run with a newer version of one program that is broken."""
        files = self.folder / f"broken-{self.count}"
        (image_broken if program == "openclaw" else replaced)(files, program, how)
        return self._beginning({program: NEWER[program]}, {program: files})

    def broken(self, program: str, how: str) -> str:
        """What a run says with a newer version of one program that is broken, with its status on the last line."""
        with self.beginning(program, how)() as process:
            text = f"{process.communicate(timeout=1500)[0]}\n{process.returncode}"
        print(text)
        return text

    def note(self, program: str, host: str = "home") -> str:
        return self.lab.ssh(host, f"cut -d ' ' -f 1-4 {FOLDER}/{program}/note | head -n 1")


def replaced(files: Path, program: str, how: str) -> None:
    """The files of a program, with a script in the place of the program itself."""
    pinned = store.find_program(program, packages.this_cpu())
    assert pinned is not None
    shutil.copytree(pinned.directory, files, symlinks=True)
    real = files / REPLACED[program]
    real.rename(real.with_name(f"{real.name}-real"))
    call = 'real() { exec "$(readlink -f "$0")-real" "$@"; }'
    real.write_text(f"#!/bin/sh\n{call}\n{BROKEN[how][program]}\n")
    real.chmod(0o755)


def image_broken(files: Path, program: str, how: str) -> None:
    """An image like the pinned one, with another gateway."""
    pinned = store.find_program(program, packages.this_cpu())
    assert pinned is not None
    work = files.with_name(f"{files.name}-work")
    work.mkdir(parents=True)
    (files / "image").mkdir(parents=True)
    layer = oci.layer(work / "broken.tar.zst", lambda sink: versions.file_in_layer(sink, "app/openclaw.mjs", GATEWAY))
    archive = pinned.directory / versions.ARCHIVE
    versions.rewritten(archive, files / versions.ARCHIVE, NEWER[program], lambda layers: [*layers, layer], work)
    shutil.rmtree(work)


@pytest.fixture(scope="module")
def house(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    single.deploy()
    yield House(single, tmp_path_factory.mktemp("versions"))
    for host in single.hosts:
        single.ssh(host, f"rm -rf {FOLDER}")
    single.deploy()


def untouched(house: House, unit: str) -> None:
    """The house is as the pins want it: a run changes nothing, and the program is the one that it was."""
    results = house.lab.deploy()
    assert {each["name"]: each["success"] for each in results["operations"] if each["success"]} == {}
    house.lab.ssh("home", f"systemctl is-active {unit}")


def test_a_version_that_eats_its_data_is_taken_back_by_the_host(house: House) -> None:
    lab = house.lab
    nodes = lab.ssh("home", NODES)
    said = house.broken("headscale", "eats its data")
    assert said.endswith("\n1") and "Traceback" not in said
    assert "headscale 0.29.3 -> 0.29.9: this project's pin has changed" in said
    assert (
        "0.29.3 -> 0.29.9 was taken back by the host: it starts, and does not do what the version before it did" in said
    )
    assert "0.29.3 is back, with its files and data of before, and does what it did" in said
    assert "log.new:" in said and "log.old:" in said
    assert lab.ssh("home", NODES) == nodes
    # What the host itself compared: the data that it put back are those that it had copied, byte for byte.
    assert "the data are as before: " in lab.ssh("home", f"cat {FOLDER}/headscale/log")
    assert house.note("headscale") == "headscale 0.29.3 0.29.9 back"
    assert lab.ssh("home", "ls /etc/systemd/system | grep private-ai-upgrade || :") == ""
    untouched(house, "headscale")


def all_of_them(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--upgrades") != "all":
        pytest.skip("takes minutes: `make upgrades` makes it; the test above is one of these")


CASES = [(how, program) for how, programs in BROKEN.items() for program in programs]
CASES = [case for case in CASES if case != ("eats its data", "headscale")]


@pytest.mark.parametrize(("how", "program"), CASES)
def test_a_broken_version_is_taken_back(request: pytest.FixtureRequest, house: House, how: str, program: str) -> None:
    all_of_them(request)
    begun = time.monotonic()
    said = house.broken(program, how)
    assert said.endswith("\n1") and "was taken back by the host" in said and "Traceback" not in said
    print(f"{program} that {how}: {time.monotonic() - begun:.0f} s")
    [line] = {house.note(program, host).split()[-1] for host in house.lab.hosts if noted(house, program, host)}
    assert line == "back"
    untouched(house, UNITS[program])


def noted(house: House, program: str, host: str) -> bool:
    return bool(house.lab.ssh(host, f"ls {FOLDER}/{program}/note 2>/dev/null || :"))


def test_an_openclaw_that_is_ready_and_answers_nobody_is_taken_back(
    request: pytest.FixtureRequest, house: House
) -> None:
    all_of_them(request)
    lab = house.lab
    house.lab.ssh("home", "systemctl --user --machine=openclaw@ start openclaw-warm.service")
    said = house.broken("openclaw", "answers wrongly")
    assert said.endswith("\n1") and "was taken back by the host" in said
    assert house.note("openclaw").split()[-1] == "back"
    assert "the data are as before: " in lab.ssh("home", f"cat {FOLDER}/openclaw/log")
    asked = lab.run(PYINFRA, "-y", "--data", "message=Hello", lab.inventory, "playbooks/chat.py")
    assert asked.returncode == 0, asked.stderr[-3000:]


@contextmanager
def begun(house: House, begin: Callable[..., Popen[str]], phase: str) -> Iterator[Popen[str]]:
    """A run whose upgrade of Headscale has reached a phase."""
    with begin() as process:
        reached = f"grep -qs '^headscale [^ ]* [^ ]* {phase} ' {FOLDER}/headscale/note"
        inside(house.lab, "home", f"for i in $(seq 1200); do {reached} && exit; sleep 0.1; done; exit 1")
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("phase", ["stop", "start", "return"])
def test_a_host_that_is_switched_off_in_the_middle(request: pytest.FixtureRequest, house: House, phase: str) -> None:
    """The old version is back with its data before the services of the next boot start."""
    all_of_them(request)
    lab = house.lab
    nodes = lab.ssh("home", NODES)
    with begun(house, house.beginning("headscale", SLOW[phase]), phase):
        os.kill(leader("home", lab.name), signal.SIGKILL)
    up = lab.lab("up")
    assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
    assert house.note("headscale").split()[-1] == "back"
    inside(lab, "home", f"for i in $(seq 60); do {NODES} >/dev/null && exit; sleep 1; done; exit 1")
    assert lab.ssh("home", NODES) == nodes
    untouched(house, "headscale")


def test_a_controller_that_is_gone_is_not_needed(request: pytest.FixtureRequest, house: House) -> None:
    all_of_them(request)
    lab = house.lab
    with begun(house, house.beginning("headscale", SLOW["start"]), "start") as process:
        process.kill()
        process.wait()
        # The next run says that the host is at work, and changes nothing.
        done = lab.run(PYINFRA, "-y", lab.inventory, "deploy.py")
        assert done.returncode == 1 and "is at work since" in done.stderr, done.stderr[-3000:]
    ended = f"grep -q ' back ' {FOLDER}/headscale/note"
    inside(lab, "home", f"for i in $(seq 180); do {ended} && exit; sleep 1; done; cat {FOLDER}/headscale/log; exit 1")
    untouched(house, "headscale")


def test_an_upgrade_that_was_ended_on_the_host_is_taken_back_by_the_next_run(
    request: pytest.FixtureRequest, house: House
) -> None:
    all_of_them(request)
    lab = house.lab
    with begun(house, house.beginning("headscale", SLOW["start"]), "start") as process:
        lab.ssh("home", "systemctl kill --signal=KILL private-ai-upgrade-headscale")
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 1 and "somebody has ended it on the host" in said
    results = lab.deploy()
    changed = {each["name"] for each in results["operations"] if each["success"]}
    assert changed == {"Upgrade | What was cut off", STAMP}
    assert house.note("headscale").split()[-1] == "back"
    untouched(house, "headscale")


def put_openclaw(lab: TestLab, archive: Path) -> None:
    """Have the gateway run the older OpenClaw of versions.REAL, on a new state.

    A deployment cannot do it: that version does not know all of our configuration, and ends with its state half made.
    """
    name = f"localhost/openclaw:{versions.REAL['openclaw']}"
    load = through_manager("openclaw", "podman load --quiet")
    with archive.open("rb") as data:
        loaded = run(["lab/ssh", "home", f"{load} >/dev/null"], cwd=REPO, env=lab.env, stdin=data, check=False)
    assert loaded.returncode == 0
    manager = "systemctl --user --machine=openclaw@"
    lab.ssh("home", through_manager("openclaw", f"podman tag {name} {name}-bbbbbbbbbbbb"))
    lab.ssh(
        "home",
        f"set -e; {manager} stop openclaw-warm.timer openclaw.service; cd /var/lib/openclaw; mv state state.before; "
        "install -d -o openclaw -g openclaw -m 0700 state; "
        f"sed -i 's,^Image=.*,Image={name}-bbbbbbbbbbbb,' /etc/containers/systemd/users/*/openclaw.container; "
        f"{manager} daemon-reload; {manager} start openclaw.service",
    )


def test_real_versions_there_and_back(request: pytest.FixtureRequest, house: House) -> None:
    """Programs of which another version could be obtained, from the older to the newer, and by hand back again."""
    all_of_them(request)
    lab = house.lab
    files = {name: versions.kept(name) for name in versions.REAL}
    assert all(map(Path.is_dir, files.values())), "python -m tests.lab.versions"
    for words in (["down"], ["up", *beside()]):
        assert lab.lab(*words).returncode == 0
    assert house.with_versions({"headscale": versions.REAL["headscale"]}, files)().endswith("\n0")
    put_openclaw(lab, files["openclaw"] / versions.ARCHIVE)
    nodes = lab.ssh("home", NODES)
    newer = house.with_versions({"tailscale": versions.REAL["tailscale"]}, files)
    said = newer()
    assert said.endswith("\n0"), said[-5000:]
    for line in ("headscale 0.29.2 -> 0.29.3", "openclaw 2026.9.4 -> 2026.9.6", "tailscale 1.102.3 -> 1.102.5"):
        assert f"{line}: done" in said
    assert lab.ssh("home", NODES) == nodes
    asked = (PYINFRA, "-y", "--data", "message=Hello", lab.inventory, "playbooks/chat.py")
    assert lab.run(*asked).returncode == 0
    for program in ("headscale", "tailscale"):
        done = newer("playbooks/go_back.py", "--data", f"program={program}", "--data", "on=home")
        assert done.endswith("\n0") and "lost by that: " in done, done[-5000:]
    assert lab.ssh("home", "headscale version | head -n 1") == "headscale version v0.29.2"
    assert lab.ssh("home", NODES) == nodes
    assert lab.run(*asked).returncode == 0
