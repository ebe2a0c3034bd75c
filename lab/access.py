"""Two ways into a lab's hosts: SSH with known keys, and the number of a process whose namespaces `nsenter` can
enter."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.lived_in import way
from lab.state import LabError, State, chosen_name, write_whole
from lab.topology import Lab
from plan.engine.errors import SettingError
from plan.engine.ssh_config import path_word

PLACE = "this repository's folder"


def run_on(
    host: str,
    command: str | list[str],
    input: str | None = None,
    name: str | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a shell text or an argument list on a host over SSH: as root, or on a lived-in host as a person's account.

    The lab is `name`, by default the one named by LAB. Returns exit status and both outputs, also if the command failed
    (255 when SSH itself failed). Raises SettingError if that lab is not up, TimeoutExpired after `timeout` seconds.
    """
    text = command if isinstance(command, str) else shlex.join(command)
    return subprocess.run(
        [*ssh_command(name), host, text],
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def ssh_command(name: str | None = None) -> list[str]:
    """The words `ssh -F ...` for a lab. The caller adds host and command."""
    name = name or chosen_name()
    config = State.of(name).ssh_config
    if not config.exists():
        raise SettingError("LAB (--name)", name, "the name of a lab that is up", "bring it up with `make lab`")
    return ["ssh", "-F", str(config)]


def leader(host: str, name: str | None = None) -> int:
    """The number that a host's PID 1 has on the machine, for `nsenter --target`. LabError if the host does not run."""
    record = State.of(name or chosen_name()).processes(host)
    if "nspawn" in record and record["nspawn"].alive():
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except OSError:  # the process has ended meanwhile
                continue
            if int(fields["PPid"]) == record["nspawn"].pid and fields["NSpid"].split()[-1:] == ["1"]:
                return int(fields["Pid"])
    raise LabError(f"host {host} does not run; see `python -m lab status`")


def make_keys(lab: Lab, state: State) -> None:
    """Make the login key, a host key for each host, and known_hosts with these. So SSH never has to trust an unknown
    key."""
    state.host_keys.mkdir(mode=0o700, exist_ok=True)
    _make_key(state.ssh_key, f"lab-{lab.name}")
    lines = []
    for host in lab.hosts:
        key = state.host_keys / host.name
        _make_key(key, host.name)
        kind, public, *_ = key.with_suffix(".pub").read_text().split()
        port = way(lab, host).port
        # The form of sshd(8): if the port is not 22, it stands with each name.
        names = [name if port == 22 else f"[{name}]:{port}" for name in (host.name, str(host.v4), str(host.v6))]
        lines.append(f"{','.join(names)} {kind} {public}\n")
    write_whole(state.known_hosts, "".join(lines))


def _make_key(path: Path, comment: str) -> None:
    if not path.with_suffix(".pub").exists():
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)


def write_ssh_config(lab: Lab, state: State) -> None:
    """Write the ssh configuration of the lab, for ssh, rsync and testinfra. The sockets of shared connections are in a
    private folder with a short path: a socket's path has about 100 characters at most (unix(7)), and the repository's
    path may be long."""
    sockets = _sockets(state)
    if sockets is None or not sockets.is_dir():
        # Not in TMPDIR, because that path may be long and may contain any characters.
        sockets = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    lines = []
    for host in lab.hosts:
        into = way(lab, host)
        lines.append(f"Host {host.name}\n  HostName {host.v4}\n  User {into.user}\n  Port {into.port}\n")
        lines.append(f"  ProxyJump {into.jump}\n" if into.jump else "")
    lines.append(
        f"""Host *
  IdentityFile {path_word(PLACE, str(state.ssh_key))}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {path_word(PLACE, str(state.known_hosts))}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 3
  ControlMaster auto
  ControlPath {sockets}/%C
  ControlPersist 60
"""
    )
    write_whole(state.ssh_config, "".join(lines))


def close_connections(state: State, host: str | None = None) -> None:
    """End the shared SSH connections to one host; or to all hosts, and remove their folder."""
    if host is not None:
        command = ["ssh", "-F", str(state.ssh_config), "-O", "exit", host]
        subprocess.run(command, capture_output=True, check=False)
        return
    sockets = _sockets(state)
    if sockets is None or not sockets.is_dir():
        return
    for socket in sockets.iterdir():
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
        subprocess.run(command, capture_output=True, check=False)
    shutil.rmtree(sockets, ignore_errors=True)


def _sockets(state: State) -> Path | None:
    try:
        text = state.ssh_config.read_text()
    except FileNotFoundError:
        return None
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if key == "ControlPath":
            return Path(value).parent
    return None
