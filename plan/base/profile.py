"""A host's profile as plain data. facts/base/profile.py reads it, plan/base/preflight.py checks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from plan.base.capabilities import Machine
from plan.base.writable_folders import Storage
from plan.engine.claims import Login
from plan.other_programs.drop_ins import DropIn
from plan.other_programs.nft_listing import Chain
from plan.upgrade.notes import Note
from plan.upgrade.versions import Installed

#: A file on each host that only root may read, and that is gone after a restart. It says which run changed something
#: there last, and whether that run has ended (operations/engine/one_run.py). The run holds a lock on this file.
LAST_RUN = "/run/private-ai/last-run"


@dataclass(frozen=True)
class Listener:
    """A listening socket. `address` has no brackets and no interface; '*' means all addresses of both families.

    `process` and `unit` are empty when the kernel names none. `unit` is the innermost systemd unit; for a socket that
    systemd itself holds, it is the .socket unit. `account` is the number of the process's account; None when it is not
    known, for example while systemd holds the socket.
    """

    proto: Literal["tcp", "udp"]
    address: str
    port: int
    process: str
    unit: str
    account: int | None = None

    @property
    def is_sshd(self) -> bool:
        """Whether sshd listens there, or systemd on behalf of sshd until somebody connects."""
        return self.process.startswith("sshd") or self.unit.partition(".")[0].partition("@")[0] in ("ssh", "sshd")


@dataclass(frozen=True)
class Outgoing:
    """A connection that the kernel begins, or that root begins on the kernel's behalf. `what`: its purpose, in words.
    `server`: the server's name or address in the host's files. `address`: "" when the host does not know it without a
    name server. `ports`: as "2049/tcp"; empty when they are not known beforehand. `asked`: root has to ask a name
    server for the address.
    """

    what: str
    server: str
    address: str
    ports: tuple[str, ...]
    asked: bool = False


@dataclass(frozen=True)
class Vpn:
    """A Tailscale that does not belong to the house. `state`: tailscaled's word for its state. `control`: its control
    server. Both are "" when none runs."""

    state: str = ""
    control: str = ""

    @property
    def logged_in(self) -> bool:
        # In all other states the node has an account, and is connected, stopped or waiting.
        return self.state not in ("", "NoState", "NeedsLogin")


@dataclass(frozen=True)
class Beside:
    """Things on a host that may belong to somebody else.

    `claimed`: the paths that an earlier run found free and took (plan/engine/claims.py). `places`: other paths of the
    claims at which something exists. `logins`, `groups`: accounts and groups with one of our names. `fenced`: the
    house's firewall has been in force here before. `chains`: packet filters of other programs. `drop_ins`: changes by
    others to our units (plan/other_programs/drop_ins.py).
    """

    claimed: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    logins: tuple[Login, ...] = ()
    groups: frozenset[str] = frozenset()
    vpn: Vpn = Vpn()
    fenced: bool = False
    chains: tuple[Chain, ...] = ()
    drop_ins: tuple[DropIn, ...] = ()


@dataclass(frozen=True)
class Profile:
    """One host at one moment. Units: MiB, seconds. A text is '' when there is nothing to tell.

    `cpu` is 'amd64', 'arm64' or the kernel's own word. `ram_mib` is the kernel's MemTotal; in a container with less
    memory it is the container's limit. `clock` is the host's time (seconds since 1970) in the middle of the reading.
    `clock_skew_s` is the host's time minus the controller's; its error is at most half of the time that the reading
    took. `systemd`: whether systemd is PID 1. `systemd_version`: 0 without systemd. `cgroup_controllers`: of cgroup v2.
    `addresses`: (interface, address/prefix). `default_routes`: (interface, gateway or ''). `vram_mib`: the sum over
    `gpus`; 0 without nvidia-smi, and for cards without memory of their own. `apt_proxies`, `apt_mirrors`: URLs.
    `apt_user`: the account with which apt downloads. `ssh_client`: the controller's address as the host sees it; ''
    without SSH. `ssh_port`: the port on the host to which the controller is connected; 0 without SSH.

    About an interrupted run: `firewall_tried` says whether its rules are still on the host, loaded or not.
    `firewall_unconfirmed` is the time since when they are in force, `firewall_taken_back` the time when they were taken
    back, both as the host wrote it.

    `last_run`: the content of LAST_RUN. `restored`: the note of a restore (plan/backup/restoring.py). `stamp`: the text
    of the stamp (plan/engine/stamp.py), if root wrote it and everybody may read it. `control_server`: the addresses at
    which the host looks for the control server; empty before its first deployment. `machine`: what the machine or
    container can do. `storage`: what can be written there. `beside`: what may belong to somebody else. `outgoing`: the
    kernel's connections to other machines, open now or opened at boot. `installed`: the house's programs as the host
    starts them. `upgrades`: what upgrades have left.
    """

    hostname: str
    os_id: str
    os_version_id: str
    os_pretty: str
    cpu: str
    cpus: int
    ram_mib: int
    clock: float
    clock_skew_s: float
    systemd: bool
    systemd_version: int
    cgroup_controllers: frozenset[str]
    kernel: str
    addresses: tuple[tuple[str, str], ...]
    default_routes: tuple[tuple[str, str], ...]
    listeners: tuple[Listener, ...]
    gpus: tuple[str, ...]
    vram_mib: int
    apt_proxies: tuple[str, ...]
    apt_mirrors: tuple[str, ...]
    ssh_client: str
    ssh_port: int
    machine_id: str
    reboot_required: bool
    firewall_tried: bool
    firewall_unconfirmed: str
    firewall_taken_back: str
    stamp: str
    machine: Machine = field(default_factory=Machine)
    storage: Storage = field(default_factory=Storage)
    beside: Beside = Beside()
    apt_user: str = "_apt"
    outgoing: tuple[Outgoing, ...] = ()
    control_server: tuple[str, ...] = ()
    last_run: str = ""
    installed: tuple[Installed, ...] = ()
    upgrades: tuple[Note, ...] = ()
    restored: str = ""
