"""Runs one host, and starts it again when it reboots. Usage: python -m lab.supervisor LAB HOST

When a host reboots, systemd-nspawn ends with exit status 133 and must be started again. With any other status, the host
has stopped. SIGTERM shuts the host down and ends this process.
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
    """nspawn's name for a host, which also says the lab, because two labs may both have a `laptop`. It has 12
    characters at most: `vb-` and this name are the name of the host's port on the bridge."""
    return f"{host.name}-{state.label[-3:]}"


def nspawn(lab: Lab, state: State, host: Host) -> list[str]:
    """The command line that runs a host.

    The host has all capabilities except one, and may use all system calls, because it must work as a complete server
    with its own nftables, containers and VPN. The namespace separates it from the network. Nothing protects the machine
    from root on the host. The capability that it does not have is setting the clock: all hosts have the machine's
    clock, and `timedatectl set-timezone` on a host could shift it by hours for everybody.
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
        # Device nodes of the lab, with the usual modes. Those of the machine may be usable by root only.
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
    # After a crash of nspawn, the host's processes and its port on the bridge may still exist.
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
                    # If the host mounts /tmp by its own fstab, nspawn must not mount it.
                    "SYSTEMD_NSPAWN_TMPFS_TMP": str(int(not lives(lab, host, "small-tmp"))),
                },
                preexec_fn=lambda: cgroups.enter(state.label, host.name),
            )
            state.write_processes(host_name, {"supervisor": Process.of(os.getpid()), "nspawn": Process.of(child.pid)})
            if stopping:  # SIGTERM came between the start of nspawn and the assignment to `child`
                child.terminate()
            status = child.wait()
            console.write(f"[lab] nspawn ended with status {status}\n".encode())
    state.record(host_name).unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
