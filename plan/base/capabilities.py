"""The part of a host's profile about what the machine, or the container in which the host runs, can do.

facts/base/capabilities.py reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plan.engine.upload_folder import INCOMING

#: Where apt keeps the packages that it has downloaded.
PACKAGE_FILES = "/var/cache"
#: The folders that a house fills. They may be on one file system or on several.
FOLDERS = ("/var/lib", "/opt", "/var/lib/ollama", "/var/lib/openclaw", INCOMING, "/usr", PACKAGE_FILES)

#: Units that start an account's systemd without a login. OpenClaw's container runs in such a systemd.
MANAGERS = (
    *("dbus-broker.service", "dbus.service", "dbus.socket", "systemd-logind.service"),
    *("user-runtime-dir@.service", "user@.service"),
)

#: The file in which an administrator sets Podman's folder for images, for all accounts without a file of their own.
STORE = "/etc/containers/storage.conf"

#: A range of user numbers of a user namespace: first and last.
Ids = tuple[int, int]


@dataclass(frozen=True)
class Disk:
    """The free space for root below `folder`, MiB. `system` is the same for folders on the same file system.
    `free_files`: how many more files fit (inodes); None when there is no limit."""

    folder: str
    system: str
    free_mib: int
    free_files: int | None = None


@dataclass(frozen=True)
class Machine:
    """One machine or container, since its last start.

    `boot` differs for each start of each machine and container. `host_keys`: its public SSH host keys (base64).
    `ram_available_mib`: the memory that programs can still get, including memory that the kernel would give back; None
    if it is not known. The next four say why something does not work, and are "" when it works: `card_trouble` is the
    output of nvidia-smi when it lists no graphics card, `nft_trouble` why nft (if it is installed) cannot read rules,
    `tun_trouble` why the tunnel device cannot be opened, `sandbox_trouble` why systemd cannot give a service its own
    view of the file systems. `ids`: the user numbers that exist here. `switches`: the kernel's settings about user
    namespaces; a setting that this kernel does not have is missing. `masked`: the units of MANAGERS that somebody has
    masked. `package_trouble`: why dpkg cannot set up packages that are installed by half, or "". `podman_store`: the
    line of STORE that gives accounts another folder for images, or "". `model_record`: the text of the record of an
    earlier run's model choice (plan/ollama/recorded_choice.py), or "".
    """

    boot: str = ""
    host_keys: frozenset[str] = frozenset()
    ram_available_mib: int | None = None
    disks: tuple[Disk, ...] = ()
    card_trouble: str = ""
    tun_trouble: str = ""
    nft_trouble: str = ""
    sandbox_trouble: str = ""
    ids: tuple[Ids, ...] = ((0, 2**32 - 2),)
    switches: dict[str, int] = field(default_factory=dict)
    masked: tuple[str, ...] = ()
    package_trouble: str = ""
    podman_store: str = ""
    model_record: str = ""

    def disk(self, folder: str) -> Disk:
        """The file system of one of FOLDERS."""
        return next(disk for disk in self.disks if disk.folder == folder)

    def has_ids(self, first: int, count: int) -> bool:
        """Whether all of these user numbers exist here."""
        wanted = first
        for begin, end in sorted(self.ids):
            if begin <= wanted <= end:
                wanted = end + 1
        return wanted >= first + count
