"""Checks a host's folders: a run can write to them, what it writes stays there, and the services can use it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from plan.engine.claims import accounts_of
from plan.engine.errors import SettingError
from plan.engine.terminal_text import line

#: The files that change when a run makes accounts. A run does that once.
ACCOUNT_FILES = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
NAMES_FILE = "/etc/hosts"
#: Folders that a role fills, and that are often disks of their own -> the role.
DATA = {"/var/lib/ollama": "model_hosts", "/var/lib/openclaw": "gateway"}
#: Folders that root makes and gives to an account of a service -> the role that has them, "" for all. On its way into
#: them root follows no link (operations/engine/shell.py).
OWN_FOLDERS = {
    "/etc/private-ai": "",
    "/var/lib/private-ai": "",
    "/etc/headscale": "coordinator",
    "/etc/openclaw": "gateway",
    "/var/lib/openclaw/state": "gateway",
    "/var/lib/openclaw/backup": "gateway",
    "/var/lib/ollama": "model_hosts",
    "/var/lib/ollama/models": "model_hosts",
}
#: Paths that a run or apt changes. If a path does not exist, the folder in which it would be counts.
WRITTEN = (
    *("/etc", "/etc/systemd/system", "/opt", "/usr", "/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/local/sbin"),
    *("/var/cache", "/var/lib", "/var/lib/dpkg", *DATA, NAMES_FILE, *ACCOUNT_FILES),
)
#: Folders through which service accounts have to pass to start and read their files.
PASSED = ("/", "/etc", "/opt", "/usr", "/usr/bin", "/usr/local", "/usr/local/bin", "/var", "/var/lib")

#: Types of file systems that keep no owner for each file: all files belong to the account that mounted the file system.
OWNERLESS = frozenset(
    (
        *("9p", "cifs", "exfat", "fuse.exfat", "fuse.rclone", "fuse.sshfs", "fuseblk", "hfs"),
        *("msdos", "ntfs", "ntfs3", "smb3", "vfat"),
    )
)
#: File systems on which a container in a user namespace cannot keep files. An NFS server does not know the accounts of
#: the namespace (Podman's troubleshooting.md).
NO_CONTAINERS = OWNERLESS | {"nfs", "nfs4"}
#: Folders from which programs are started: the house's programs, scripts of packages, programs in the container.
STARTED_FROM = frozenset({"/opt", "/var/lib", "/var/lib/openclaw"})

#: Types of root file systems that lose their content at the next boot.
FLEETING = frozenset({"aufs", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs"})
#: Words on the kernel's command line that make such a root file system. They come from overlayroot, raspi-config, the
#: live systems of Debian and Ubuntu, dracut, systemd. A word that ends with "=" counts unless its value is in
#: SWITCHED_OFF.
FLEETING_WORDS = ("boot=casper", "boot=live", "boot=overlay", "overlayroot=", "rd.live.image", "systemd.volatile=")
#: Types of file systems in memory. They lose their content at the next boot.
IN_MEMORY = frozenset({"ramfs", "tmpfs"})
SWITCHED_OFF = frozenset({"", "disabled", "no", "0"})


@dataclass(frozen=True)
class Mount:
    """A file system: where it is mounted (`at`), its type and its options."""

    at: str
    kind: str
    options: frozenset[str]


@dataclass(frozen=True)
class Storage:
    """What can be written on a host, and where its accounts can pass. `unwritable`: paths of WRITTEN that not even root
    can change. `impassable`: folders of PASSED that other accounts cannot enter. `below`: the folders of
    plan/base/capabilities.py, each with its file system. `fleeting`: why the host loses at its next boot what is
    written now, or "". `links`: paths of OWN_FOLDERS that are links, each with its target.
    """

    unwritable: tuple[str, ...] = ()
    impassable: tuple[str, ...] = ()
    below: tuple[tuple[str, Mount], ...] = ()
    fleeting: str = ""
    links: tuple[tuple[str, str], ...] = ()


def fleeting(command_line: str, root: str) -> str:
    """Why a machine (not a container) loses at its next boot what is written now; "" when it does not.

    `command_line`: the kernel's command line. `root`: the type of the root file system.
    """
    for word in command_line.split():
        key, equals, value = word.partition("=")
        if word in FLEETING_WORDS or (f"{key}{equals}" in FLEETING_WORDS and value not in SWITCHED_OFF):
            return f"{line(word)} on the kernel's command line"
    return f"of type {root}" if root in FLEETING else ""


def check_storage(
    name: str, roles: Collection[str], storage: Storage, accounts: Iterable[str], *, named: bool
) -> tuple[list[SettingError], list[str]]:
    """Problems (any one stops the run) and warnings of the host `name`. This function raises nothing.

    `accounts`: the accounts of the house that the host already has. `named`: its /etc/hosts has the control server.
    """
    problems = [*_fleeting(name, storage), *_impassable(name, storage), *_mounts(name, roles, storage)]
    problems += _links(name, roles, storage)
    done = {*(ACCOUNT_FILES if set(accounts_of(roles)) <= set(accounts) else ()), *([NAMES_FILE] if named else [])}
    # If a folder is not writable, its content is not listed: most often the whole file system is read-only.
    mine = [path for path in storage.unwritable if DATA.get(path) in (None, *roles)]
    paths = [path for path in mine if not any(_inside(path, other) for other in mine)]
    shut = [path for path in paths if path not in done]
    if shut:
        problems.append(
            SettingError(
                f"host {name}: {', '.join(shut)}",
                "not writable, not even for root",
                "files and folders that a deployment, and apt, can change",
                f"if `lsattr -d {' '.join(shut)}` shows an i: chattr -i. Else the file system is read-only: "
                "mount -o remount,rw, and see /etc/fstab. An error of the disk can be the reason: see `dmesg`. An NFS "
                "share needs no_root_squash on its server",
            )
        )
    later = [path for path in paths if path in done]
    if not later:
        return problems, []
    return problems, [
        f"host {name}: {', '.join(later)} cannot be written, not even by root (lsattr shows an i where chattr +i was "
        "used). A run that has to change it will fail."
    ]


def _inside(path: str, folder: str) -> bool:
    return path != folder and path.startswith(f"{folder.rstrip('/')}/")


def _fleeting(name: str, storage: Storage) -> Iterator[SettingError]:
    if storage.fleeting:
        yield SettingError(
            f"host {name}: root file system",
            storage.fleeting,
            "a file system that keeps its content after a restart",
            "install a live system to a disk; on a Raspberry Pi switch the overlay file system off in raspi-config "
            "(Performance Options); else remove overlayroot from /etc/overlayroot.conf and from the kernel's "
            "command line. Then restart the host and run again",
        )


def _impassable(name: str, storage: Storage) -> Iterator[SettingError]:
    if storage.impassable:
        paths = ", ".join(storage.impassable)
        yield SettingError(
            f"host {name}: {paths}",
            "closed to all accounts but root",
            "folders that the accounts of services can pass",
            f"chmod o+rx {' '.join(storage.impassable)}",
        )


def _links(name: str, roles: Collection[str], storage: Storage) -> Iterator[SettingError]:
    for path, target in storage.links:
        if OWN_FOLDERS.get(path) not in ("", *roles):
            continue
        mount = shlex.quote(f"{target} {path} none bind 0 0")
        yield SettingError(
            f"host {name}: {path}",
            f"a link to {line(target)}",
            "a folder, or a disk or another folder that is mounted there: root follows no link in the place of a "
            "service's folder",
            f"mount the folder there instead: rm {path}; mkdir {path}; echo {mount} >> /etc/fstab; mount {path}",
        )


def _mounts(name: str, roles: Collection[str], storage: Storage) -> Iterator[SettingError]:
    needed = {"/opt", "/var/lib", *(folder for folder, role in DATA.items() if role in roles)}
    folders: dict[Mount, list[str]] = {}
    for folder, mount in storage.below:
        if folder in needed:
            folders.setdefault(mount, []).append(folder)
    for mount, all_on_it in folders.items():
        here = f"{line(mount.kind)} at {line(mount.at)}"
        wrong = [each for each in all_on_it if mount.kind in (NO_CONTAINERS if "openclaw" in each else OWNERLESS)]
        if wrong:
            yield SettingError(
                f"host {name}: file system of {' and '.join(wrong)}",
                here,
                "one that keeps the owner of each file, such as ext4, xfs or btrfs, on a disk of this host",
                f"put such a file system at {wrong[0]}, or unmount {line(mount.at)} there (umount, and remove its line "
                "from /etc/fstab)",
            )
        # For a root file system in memory, `_fleeting` has the message.
        if mount.kind in IN_MEMORY and mount.at != "/":
            yield SettingError(
                f"host {name}: file system of {' and '.join(all_on_it)}",
                f"{here}, in memory",
                "one that keeps its content after a restart",
                f"umount {line(mount.at)}, and remove its line from /etc/fstab; or mount a disk there",
            )
        started = [each for each in all_on_it if each in STARTED_FROM]
        if started and "noexec" in mount.options:
            yield SettingError(
                f"host {name}: file system of {' and '.join(started)}",
                f"{here}, mounted with noexec",
                "one from which programs can be started: the house's, those in the container, the scripts of packages",
                f"mount -o remount,exec {line(mount.at)}, and remove noexec from its line in /etc/fstab (user and "
                "users include noexec: add exec after them)",
            )
