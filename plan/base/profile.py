"""What a host is, as plain data. Read by facts/base/profile.py, judged by plan/base/preflight.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from plan.base.capabilities import Machine
from plan.base.writable_folders import Storage
from plan.engine.claims import Login
from plan.other_programs.drop_ins import DropIn
from plan.other_programs.nft_listing import Chain

#: On each host, for root alone, until it restarts: which run changed something there last, and whether it has ended
#: (operations/engine/one_run.py). The run that does holds a lock on it.
LAST_RUN = "/run/private-ai/last-run"


@dataclass(frozen=True)
class Listener:
    """A socket that accepts: `address` without brackets or interface, '*' for every address of both families.

    `process` and `unit` are empty when the kernel names none. `unit` is the innermost systemd unit, for
    sockets held by systemd itself the .socket unit. `account` is the number of the one that the process runs as,
    None where it is not known, as for a socket that systemd still has.
    """

    proto: Literal["tcp", "udp"]
    address: str
    port: int
    process: str
    unit: str
    account: int | None = None

    @property
    def is_sshd(self) -> bool:
        """Whether sshd listens there, or systemd for it until somebody comes."""
        return self.process.startswith("sshd") or self.unit.partition(".")[0].partition("@")[0] in ("ssh", "sshd")


@dataclass(frozen=True)
class Outgoing:
    """A connection that the kernel begins, or root for it: `what` it is for, in words; the `server` as the host's files
    name it; its `address`, "" when the host does not know it without asking; `ports` as "2049/tcp", none where they
    cannot be said beforehand. `asked`: root has to ask a name server for the address.
    """

    what: str
    server: str
    address: str
    ports: tuple[str, ...]
    asked: bool = False


@dataclass(frozen=True)
class Vpn:
    """A Tailscale that is not the house's: its state as tailscaled calls it, its control server; "" if none runs."""

    state: str = ""
    control: str = ""

    @property
    def logged_in(self) -> bool:
        # The other states are those of a node that is switched off, or waits.
        return self.state not in ("", "NoState", "NeedsLogin")


@dataclass(frozen=True)
class Beside:
    """What is on a host that the house may not have made.

    `claimed` are the places that an earlier run found free and took (plan/engine/claims.py), `places` those of the
    others that are filled, `logins` and `groups` the accounts with a name of ours. `fenced`: the house's firewall has
    been in force here. `chains` are other people's packet filters, `drop_ins` their changes to units of ours
    (plan/other_programs/drop_ins.py).
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
    """One host at one moment. Units: MiB, seconds.

    `cpu` is 'amd64', 'arm64' or the kernel's own word. `ram_mib` is what the kernel calls MemTotal, in a container that
    is given less what it is given. `clock` is the host's time (seconds since 1970) in the middle of the reading;
    `clock_skew_s` is host minus controller, to within half the time the reading took. `systemd` says whether systemd is
    PID 1, `systemd_version` is 0 without it. `cgroup_controllers` are those of cgroup v2. `addresses` are (interface,
    address/prefix), `default_routes` (interface, gateway or ''). `vram_mib` is the sum over `gpus`, 0 without
    nvidia-smi and for cards that have no memory of their own. `apt_proxies` and `apt_mirrors` are URLs, `apt_user` is
    the account that apt fetches as. `ssh_client` is the controller's address as the host sees it, '' when not over SSH,
    and `ssh_port` the port of the host that it came in on, 0 then. Of an interrupted run, `firewall_tried` says whether
    its rules lie there, loaded or not, `firewall_unconfirmed` is since when they are in force, `firewall_taken_back`
    when they were taken back, both as the host wrote it, or ''. `last_run` is what LAST_RUN contains, '' for nothing.
    `stamp` is the text of the stamp (plan/engine/stamp.py), '' when there is none that root wrote and everybody may
    read. `control_server` are the addresses at which the host looks for the control server, none before its first
    deployment. `machine` is what machine or container can do, `storage` what can be written there, `beside` what may be
    there that the house did not make. `outgoing` is what the kernel has open, or opens at boot, to other machines.
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
