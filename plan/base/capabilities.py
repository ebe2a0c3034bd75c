"""The part of a host's profile that says what its machine, or its container, can do.

Read by facts/base/capabilities.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plan.engine.upload_folder import INCOMING

#: The folders that a house fills, whatever file systems they lie on.
FOLDERS = ("/var/lib", "/opt", "/var/lib/ollama", "/var/lib/openclaw", INCOMING)

#: Units that start the systemd of an account that nobody has logged in as, in which OpenClaw's container runs.
MANAGERS = (
    *("dbus-broker.service", "dbus.service", "dbus.socket", "systemd-logind.service"),
    *("user-runtime-dir@.service", "user@.service"),
)

#: Where an administrator says, for all accounts that have no such file of their own, where Podman keeps its images.
STORE = "/etc/containers/storage.conf"

#: Ids of a user namespace, first and last.
Ids = tuple[int, int]


@dataclass(frozen=True)
class Disk:
    """What root may still write below `folder`, MiB. `system` is the same for folders that share one file system.
    `free_files` is how many more files it holds (inodes), None where that is not limited."""

    folder: str
    system: str
    free_mib: int
    free_files: int | None = None


@dataclass(frozen=True)
class Machine:
    """One machine, or container, as it is since it was started.

    `boot` is another one for each start of each machine and container. `host_keys` are the public halves of its SSH
    keys (base64). `ram_available_mib` is what programs can still have, memory that the kernel would give back included;
    None where it is not known. `card_trouble` is what nvidia-smi said instead of telling the graphics cards.
    `nft_trouble` is why nft, where it is installed, reads no rules; `tun_trouble` is why the tunnel device cannot be
    opened, `sandbox_trouble` why a service of systemd's could not be given file systems of its own; "" when all is
    well. `ids` are the user numbers that exist here. `switches` are settings of the kernel about user namespaces, of
    those that it has. `masked` are those of MANAGERS that somebody has forbidden to start. `podman_store` is the line
    of STORE that gives accounts another folder for images, or "". `model_record` is the text of the record that an
    earlier run left of its choice of a model (plan/ollama/recorded_choice.py), or "".
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
    podman_store: str = ""
    model_record: str = ""

    def disk(self, folder: str) -> Disk:
        """The file system that holds one of FOLDERS."""
        return next(disk for disk in self.disks if disk.folder == folder)

    def has_ids(self, first: int, count: int) -> bool:
        """Whether all of these user numbers exist here."""
        wanted = first
        for begin, end in sorted(self.ids):
            if begin <= wanted <= end:
                wanted = end + 1
        return wanted >= first + count
