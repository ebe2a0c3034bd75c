"""Bring a lab up and take it down. Both can be repeated, and both work in any state of the lab."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lab import access, cgroups, limits, lived_in, machine, memory, network, phone, proxy
from lab.guest import guest, write_guest
from lab.progress import console, stage
from lab.state import REPOSITORY, LabError, Process, State
from lab.topology import FRESH, HABITS, LIVED_IN, PHONE, Host, Lab
from plan.engine.errors import SettingError

BOOT_SECONDS = 90
STOP_SECONDS = 25
UNPACK = "unpack"


@contextmanager
def only_one(state: State) -> Iterator[None]:
    """Only one `up` or `down` of a lab works at a time; others wait."""
    state.directory.parent.mkdir(exist_ok=True)
    with (state.directory.parent / f"{state.directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(*more: str, habits: Collection[str] = ()) -> tuple[machine.Mirrors, Path]:
    """Install the Debian packages that the machine needs, and `more`. Make the packed root for hosts with these habits.
    Returns mirrors and root."""
    missing = machine.missing_packages((*machine.MACHINE_PACKAGES, *more))
    if missing:
        with stage(f"Debian packages of this machine: {', '.join(missing)}"):
            machine.install(missing)
    mirrors = machine.find_mirrors()
    recipe = machine.Recipe(machine.ROOT_SUITE, machine.ROOT_PACKAGES, mirrors.sources(machine.ROOT_SUITE))
    if habits:
        packages = (*recipe.packages, *lived_in.PACKAGES)
        recipe = replace(recipe, packages=packages, included=lived_in.INCLUDED, hooks=lived_in.HOOKS)
    root = machine.cache() / recipe.name
    if not root.exists():
        with stage(f"packed root of Debian {machine.ROOT_SUITE}") as tell:
            machine.build_root(recipe, tell)
    return mirrors, root


def up(lab: Lab, any_net: bool = False) -> None:
    """Bring a lab up, or the parts of it that are missing. Returns when every host is `running` and answers SSH.

    With `any_net`, the lab gets a subnet number that nothing on this machine uses, instead of its own.
    """
    state = State.of(lab.name)
    with only_one(state):
        _refuse_other(lab, state)
        mirrors, packed = prepare(habits=lab.habits)
        state.directory.mkdir(mode=0o700, exist_ok=True)
        memory.hold_roots(lab, state)
        limits.raise_limit()
        with network.one_at_a_time():
            lab = replace(lab, net=network.free_net()) if any_net else lab
            network.refuse_clash(lab, state)
            state.write_lab(lab)
            network.bring_up(lab, state)
        access.make_keys(lab, state)
        access.write_ssh_config(lab, state)
        _make_devices(state)
        proxy.start(lab, state, mirrors)
        cgroups.clear(state.label, UNPACK)
        bare = [host for host in lab.hosts if not state.root(host).exists()]
        if bare:
            with stage(f"roots of {', '.join(host.name for host in bare)}") as tell:
                _each(bare, lambda host: _unpack(lab, state, host, packed), tell)
        stopped = [host for host in lab.hosts if not _supervised(state, host)]
        for host in stopped:
            _start(lab, state, host)
        with stage(f"{', '.join(host.name for host in lab.hosts)} running") as tell:
            _each(lab.hosts, lambda host: wait_running(state, host), tell)
        console.print(f"lab {lab.name} ({lab.topology}) is up: {lab.lan_v4}, {lab.lan_v6}", soft_wrap=True)


def _refuse_other(lab: Lab, state: State) -> None:
    there = state.read_lab()
    # A phone may be added to a lab that is up.
    if there is not None and replace(there, phone=lab.phone) != lab:
        name = "" if lab.name == "demo" else f"LAB={lab.name} "
        raise SettingError(
            f"lab {lab.name}",
            _shape(lab),
            f"what it was brought up with: {_shape(there)}",
            f"take it down first with `{name}make down`, or choose another name and number for a second lab",
        )


def _shape(lab: Lab) -> str:
    profile = LIVED_IN if lab.habits == tuple(HABITS) else ",".join(lab.habits) or FRESH
    return f"topology {lab.topology}, subnet {lab.net}, profile {profile}"


def _make_devices(state: State) -> None:
    state.devices.mkdir(exist_ok=True)
    for name, minor in (("tun", 200), ("fuse", 229)):
        node = state.devices / name
        if not node.exists():
            os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(10, minor))
        node.chmod(0o666)


def _unpack(lab: Lab, state: State, host: Host, packed: Path) -> None:
    root = state.root(host)
    part = root.with_name(f"{host.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = ["tar", "--extract", "--file", str(packed), "--directory", str(part)]
    command += ["--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tar:
        # In a group of the lab, `down` can end it. Otherwise, if this program is killed, tar would go on writing while
        # `down` removes the root.
        cgroups.enter(state.label, UNPACK, tar.pid)
        _, complaint = tar.communicate()
    if tar.returncode:
        raise LabError(f"unpacking {packed} failed: {complaint.strip()}")
    key = state.host_keys / host.name
    pair = (key.read_text(), key.with_suffix(".pub").read_text())
    login = state.ssh_key.with_suffix(".pub").read_text()
    write_guest(part, guest(lab, host, uuid.uuid4().hex, pair, login))
    if host.name == PHONE:
        phone.lay_programs(part)
    part.rename(root)  # only now, so that a root that exists is always complete


def _supervised(state: State, host: Host) -> bool:
    processes = state.processes(host.name)
    if "supervisor" in processes and processes["supervisor"].alive():
        return True
    # Without its supervisor, a host would not start again after a reboot. So it is stopped here and started again.
    stop(processes.values())
    return False


def _start(lab: Lab, state: State, host: Host) -> None:
    def first() -> None:
        # This runs between fork and exec. The number of the process stays the same, so from now on other programs find
        # the supervisor by it.
        cgroups.enter(state.label, "supervisors")
        state.write_processes(host.name, {"supervisor": Process.of(os.getpid())})

    with state.console(host.name).open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "lab.supervisor", lab.name, host.name],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=first,
        )


def wait_running(state: State, host: Host, seconds: float = BOOT_SECONDS) -> None:
    """Wait until a host answers SSH and systemd says `running`. Otherwise LabError says what the host answered."""
    end = time.monotonic() + seconds
    said = ""
    while time.monotonic() < end:
        supervisor = state.processes(host.name).get("supervisor")
        if supervisor is None or not supervisor.alive():
            break
        command = ["ssh", "-F", str(state.ssh_config), "-o", "ControlPath=none", host.name]
        done = subprocess.run(
            [*command, "systemctl is-system-running --wait"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        # Some shells print a greeting before the answer.
        said = done.stdout.strip().rpartition("\n")[2] or done.stderr.strip()
        if said == "running":
            return
        if said == "degraded":
            failed = access.run_on(host.name, "systemctl --failed --no-legend", name=state.directory.name)
            raise LabError(f"host {host.name} is degraded, failed units:\n{failed.stdout}")
        time.sleep(0.3)
    raise LabError(
        f"host {host.name} did not come up: {said or 'no answer over SSH'}\n"
        f"last lines of {state.console(host.name)}:\n{_tail(state.console(host.name))}"
    )


def _tail(path: Path, lines: int = 25) -> str:
    """The last lines of a console, without the terminal's control sequences and empty lines."""
    try:
        text = path.read_bytes()[-20000:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    text = re.sub(r"\x1b[\[\]()][0-9;?]*[A-Za-z]?|\r", "", text)
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def down(name: str) -> list[str]:
    """Remove a lab, in any state. Returns what could not be removed, one line each."""
    state = State.of(name)
    with only_one(state):
        lab = state.read_lab()
        if not state.directory.exists():
            return []
        with stage(f"lab {name} down") as tell:
            tell("stopping hosts")
            access.close_connections(state)
            # The supervisors end first: they shut down their hosts properly.
            recorded = [state.processes(record.stem) for record in state.directory.glob("*.pids")]
            processes = [process for roles in recorded for process in roles.values()]
            stop(roles["supervisor"] for roles in recorded if "supervisor" in roles)
            stop(processes)
            cgroups.clear(state.label)
            if not cgroups.any_lab():
                limits.restore_limit()
            tell("removing network and roots")
            if lab is not None:
                network.take_down(lab, state)
            for mount in network.mounts_below(state.directory):
                subprocess.run(["umount", mount], capture_output=True, check=False)
            left = _left(lab, state, processes)
            # Deleting through a mount would delete somebody else's files.
            if not network.mounts_below(state.directory):
                shutil.rmtree(state.directory, ignore_errors=True)
            if state.directory.exists():
                left.append(f"files in {state.directory}")
        return left


def stop(processes: Iterable[Process]) -> None:
    """End processes that the lab has started: first with SIGTERM, and after a while with SIGKILL."""
    wanted = list(processes)
    for process in wanted:
        process.signal(signal.SIGTERM)
    if not _wait(lambda: not any(process.alive() for process in wanted), STOP_SECONDS):
        for process in wanted:
            process.signal(signal.SIGKILL)


def _left(lab: Lab | None, state: State, processes: Iterable[Process]) -> list[str]:
    left = [f"process {process.pid}" for process in processes if process.alive()]
    left += [f"process {pid}" for pid in cgroups.members(state.label)]
    left += [f"mount {mount}" for mount in network.mounts_below(state.directory)]
    if lab is not None and network.leg_exists(lab, state):
        left.append(f"interface {lab.interface}")
    return left


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _each(hosts: Iterable[Host], work: Callable[[Host], None], tell: Callable[[str], None]) -> None:
    """Call `work` for all hosts at the same time. After all calls have ended, the first error is raised."""
    hosts = list(hosts)
    with ThreadPoolExecutor(len(hosts)) as pool:
        jobs = {host.name: pool.submit(work, host) for host in hosts}
        for name, job in jobs.items():
            job.exception()
            tell(name)
        for job in jobs.values():
            job.result()
