"""Reads the part of a host's profile about what the machine, or the container in which the host runs, can do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from pyinfra.api.exceptions import FactProcessError

from plan.base.capabilities import FOLDERS, MANAGERS, STORE, Disk, Machine
from plan.ollama.recorded_choice import RECORD

#: The next step when a host's answer lacks something that the basic programs print.
TOOLS = "Next: on the host: apt-get install iproute2 procps; then run this again"

#: The file in which dpkg keeps the state of each package.
DPKG_STATUS = "/var/lib/dpkg/status"

_SWITCHES = "user/max_user_namespaces kernel/unprivileged_userns_clone kernel/apparmor_restrict_unprivileged_userns"

# Sections of the script in facts/base/profile.py; its function `f` prints a file.
# memory: the kernel does not count the memory of ZFS's cache as available, but most of it is.
# disk: for a folder that does not exist yet, the nearest existing parent is asked.
# tun: in a container the device may exist and still refuse to open, because the container's host decides.
# sandbox: tries what systemd does to isolate a unit, in a namespace that ends with the command. It binds the whole root
# (--rbind), because a container may not bind only a part of its mounts.
# packages: an interrupted apt leaves packages that are not set up, and the next run sets them up. This only tries
# whether dpkg could. If apt is at work there now, dpkg has other words.
SECTIONS = rf"""s memory
while read -r l; do case $l in MemTotal:* | MemAvailable:*) echo "$l" ;; Buffers:*) break ;; esac; done </proc/meminfo
echo "limit $(f /sys/fs/cgroup/memory.max)"
[ -e /proc/spl/kstat/zfs/arcstats ] && while read -r n _ v; do case $n in size | c_min) echo "zfs $n $v" ;; esac
done </proc/spl/kstat/zfs/arcstats
s disk; set --; for d in {" ".join(map(shlex.quote, FOLDERS))}; do
while [ ! -d "$d" ]; do d=${{d%/*}}; d=${{d:-/}}; done; set -- "$@" "$d"; done
lie=$(df -k --output=source,avail,itotal,iavail,target "$@"); printf '%s\n' "$lie"
s tun; if [ -c /dev/net/tun ]; then echo there; w=$( (exec 3<>/dev/net/tun) 2>&1) || echo "${{w##*: }}"; fi
s gpu; if command -v nvidia-smi >/dev/null; then
timeout 10 nvidia-smi --query-gpu=memory.total,name --format=csv,noheader,nounits 2>&1 || echo "ended with $?"; fi
s sandbox; w=$(unshare --mount --propagation slave mount --rbind / / 2>&1) || echo "${{w:-unshare failed}}"
s ids; f /proc/self/uid_map
s switches; cd /proc/sys && grep -Hs . {_SWITCHES}
s masked; for u in {" ".join(MANAGERS)}; do for d in /etc/systemd/system /run/systemd/system; do
[ "$d/$u" -ef /dev/null ] && echo "$u"; done; done
s packages; if grep -qE '^Status: [a-z]+ (reinstreq|ok (half-|unpacked))' {DPKG_STATUS}; then
w=$(dpkg --no-act --configure -a 2>&1) || case $w in *"dependency problems"*) echo "$w" ;; esac; fi
s podman-store; [ ! -e {STORE} ] || grep -E '^[[:space:]]*rootless_storage_path' {STORE}
s machine-id; f /etc/machine-id
s boot; f /proc/sys/kernel/random/boot_id; f /proc/1/stat
s host-keys; for k in /etc/ssh/ssh_host_*_key.pub; do f "$k"; done
s model; f {RECORD}
"""


def parse_machine(sections: Mapping[str, list[str]]) -> Machine:
    """The Machine from the output's sections. Raises KeyError for a missing section, ValueError for one of another
    form."""
    tun = sections["tun"]
    cards = list(_cards(sections["gpu"]))
    told = [line for line in sections["gpu"] if not _CARD.fullmatch(line)]
    own_memory = any(memory for memory, _ in cards)
    return Machine(
        boot=boot_of(sections["boot"]),
        host_keys=frozenset(words[1] for line in sections["host-keys"] if len(words := line.split()) > 1),
        ram_available_mib=_available(sections["memory"]),
        disks=tuple(_disks(sections["disk"])),
        card_trouble="" if own_memory else " ".join(told),
        nft_trouble=" ".join(sections["nft-trouble"]),
        tun_trouble="" if tun == ["there"] else " ".join(tun[1:]) or "missing",
        sandbox_trouble=" ".join(sections["sandbox"]),
        ids=tuple(_ids(sections["ids"])),
        switches={
            name.replace("/", "."): int(value) for name, value in (line.split(":") for line in sections["switches"])
        },
        masked=tuple(sections["masked"]),
        package_trouble=" ".join(sections["packages"][:3]),
        podman_store=" ".join(sections["podman-store"]),
        model_record="\n".join(sections["model"]),
    )


def ram_mib(sections: Mapping[str, list[str]]) -> int:
    """The machine's memory, or the container's limit if that is smaller, MiB."""
    lines = dict(_numbers(sections["memory"]))
    return min(lines["MemTotal:"] // 1024, lines.get("limit", 2**63) // 2**20)


def cards(sections: Mapping[str, list[str]]) -> tuple[tuple[str, ...], int]:
    """The names of the graphics cards, and the sum of their own memory, MiB."""
    found = list(_cards(sections["gpu"]))
    return tuple(name for _, name in found), sum(memory for memory, _ in found)


# Memory and name of a card. For a card that uses the machine's memory, nvidia-smi prints "[N/A]".
_CARD = re.compile(r"(\d+|\[[\w /]+\])\s*,\s*(\S.*)")


def _cards(lines: list[str]) -> Iterator[tuple[int, str]]:
    for line in lines:
        found = _CARD.fullmatch(line)
        if found:
            yield int(found[1]) if found[1].isdigit() else 0, found[2]


def _numbers(lines: list[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        words = line.removeprefix("zfs ").split()
        if len(words) > 1 and words[1].isdigit():
            yield words[0], int(words[1])


def _available(lines: list[str]) -> int | None:
    found = dict(_numbers(lines))
    if "MemAvailable:" not in found:
        return None
    cache = max(0, found.get("size", 0) - found.get("c_min", 0))
    return min(found["MemAvailable:"] // 1024 + cache // 2**20, found.get("limit", 2**63) // 2**20)


def targets(lines: list[str]) -> list[str]:
    """Where the file systems of FOLDERS are mounted, in the order of FOLDERS, from df's output."""
    return [mounted for *_, mounted in _told(lines)]


_DF = re.compile(r"(\S.*?)\s+(\d+)\s+(\d+|-)\s+(\d+|-)\s+(/.*)")


def _told(lines: list[str]) -> list[list[str]]:
    """From `/dev/vda 73325220 16777216 15986644 /`, one line for each of FOLDERS. ZFS allows spaces in a name."""
    told = [list(found.groups()) for line in lines if (found := _DF.fullmatch(line))]
    if len(told) != len(FOLDERS):
        raise FactProcessError(f"host profile: 'disk' is missing some of {', '.join(FOLDERS)}. {TOOLS}")
    return told


def _disks(lines: list[str]) -> Iterator[Disk]:
    for folder, (source, free, files, free_files, mounted) in zip(FOLDERS, _told(lines), strict=True):
        # A device may be mounted in several places, so it identifies the file system. Without a device, the place does.
        system = source if source.startswith("/") else mounted
        # btrfs, and other file systems that make inodes when they need them, report 0 inodes.
        limited = files.isdigit() and int(files) > 0
        yield Disk(folder, system, int(free) // 1024, int(free_files) if limited else None)


def _ids(lines: list[str]) -> Iterator[tuple[int, int]]:
    for line in lines:
        first, _, count = map(int, line.split())
        yield first, first + count - 1


def boot_of(lines: list[str]) -> str:
    """The kernel's id of this boot, and the start time of process 1. Containers on one machine have the same id, but
    not the same start time."""
    boot_id, first = lines
    return f"{boot_id.strip()} {first.rpartition(')')[2].split()[19]}"
