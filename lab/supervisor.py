"""Runs one host and starts it again when it reboots. Usage: python -m lab.supervisor LAB HOST

systemd-nspawn ends with exit status 133 when its host reboots, and expects to be started again; any other
status is a stop. SIGTERM shuts the host down and ends this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from lab import cgroups
from lab.lived_in import host_name, lives
from lab.network import BRIDGE, inside
from lab.state import LabError, Process, State
from lab.topology import Host, Lab

REBOOT = 133


def machine(state: State, host: Host) -> str:
    """nspawn's name for a host: two labs may both have a `laptop`. At most 12 characters, because `vb-` and
    this name together name its port on the bridge."""
    return f"{host.name}-{state.label[-3:]}"


def nspawn(lab: Lab, state: State, host: Host) -> list[str]:
    """The command line that runs a host.

    All capabilities but one, and all system calls: the host is to be a whole server, with its own nftables, containers
    and VPN. It is kept apart from the network by the namespace, not from its machine's root. The clock is the
    machine's: a host that sets its own time zone (`timedatectl set-timezone`) could shift it by hours for everybody.
    """
    return inside(
        state,
        "systemd-nspawn",
        "--quiet",
        f"--directory={state.root(host)}",
        f"--machine={machine(state, host)}",
        f"--hostname={host_name(lab, host)}",
        "--register=no",
        "--keep-unit",
        "--boot",
        f"--network-bridge={BRIDGE}",
        "--capability=all",
        "--drop-capability=CAP_SYS_TIME",
        "--system-call-filter=@known",
        # Nodes of the lab's own with the usual modes, where the machine's may be for root alone.
        f"--bind={state.devices}/tun:/dev/net/tun",
        f"--bind={state.devices}/fuse:/dev/fuse",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
    )


def main(lab_name: str, host_name: str) -> int:
    state = State.of(lab_name)
    lab = state.read_lab()
    if lab is None:
        raise LabError(f"lab {lab_name} is not set up")
    host = lab.host(host_name)
    child: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    # After a crash of nspawn the host's processes and its port on the bridge may still be there.
    cgroups.clear(state.label, host.name)
    port = inside(state, "ip", "link", "delete", f"vb-{machine(state, host)}")
    subprocess.run(port, capture_output=True, check=False)
    status = REBOOT
    with state.console(host_name).open("ab", buffering=0) as console:
        while status == REBOOT and not stopping:
            child = subprocess.Popen(
                nspawn(lab, state, host),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    **os.environ,
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    # Where /tmp is in the host's own fstab, nspawn leaves it to the host.
                    "SYSTEMD_NSPAWN_TMPFS_TMP": str(int(not lives(lab, host, "small-tmp"))),
                },
                preexec_fn=lambda: cgroups.enter(state.label, host.name),
            )
            state.write_processes(host_name, {"supervisor": Process.of(os.getpid()), "nspawn": Process.of(child.pid)})
            if stopping:  # the signal came between the start and the line above
                child.terminate()
            status = child.wait()
            console.write(f"[lab] nspawn ended with status {status}\n".encode())
    state.record(host_name).unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
