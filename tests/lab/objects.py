"""All that a host has, as far as programs and people can tell: recorded, and compared with another time."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tests.lab import neighbours
from tests.lab.conftest import TestLab

#: Kind, owner, mode, size of files and where links lead. Caches, logs and what a running system writes by itself are
#: left out, and so are apt's and dpkg's own notes, and what useradd keeps of a file before it changes it.
_FILES = r"""
cd /; find / -xdev \( -path /proc -o -path /sys -o -path /var/log -o -path /var/cache/apt -o -path /var/cache/debconf \
  -o -path /var/cache/ldconfig -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd/random-seed \
  -o -path /var/lib/systemd/timers -o -path /root/.ssh -o -path /var/lib/systemd/deb-systemd-helper-enabled \
  -o -path '/tmp/systemd-private-*' -o -path '/var/tmp/systemd-private-*' -o -path '/tmp/.*-unix' \
  -o -path /var/cache/man -o -path /run -o -path /etc/ld.so.cache \) -prune -o \
  ! -name 'passwd-' ! -name 'group-' ! -name 'shadow-' ! -name 'gshadow-' ! -name 'subuid-' ! -name 'subgid-' \
  ! -name '*.dpkg-*' -printf '%p|%y %U:%G %m %l' \( -type f -printf ' %s' -o -true \) -printf '\n' | sort
"""
#: With digests where files are small and somebody's own.
_DIGESTS = (
    "find /etc /usr/local /opt /root -xdev -type f ! -name '*-' ! -name ld.so.cache ! -path '/root/.ssh/*' "
    "-exec sha256sum {} + | sed 's/^\\([0-9a-f]*\\)  \\(.*\\)/\\2|\\1/' | sort"
)
_PARTS = {
    "units": "systemctl list-unit-files --no-legend | awk '{ print $1 \"|\" $2 }' | grep -v '^session-' | sort",
    "running": "systemctl list-units --type=service,socket,timer,path --state=active,failed --plain --no-legend "
    "| awk '{ print $1 \"|\" $3 }' "
    # Those that a call starts, and that end by themselves when nobody calls.
    "| grep -vE '^(user@|user-runtime-dir@|apt-daily|systemd-(tmpfiles-clean|timedated|hostnamed)|netavark-|run-)' "
    "| sort",
    "accounts": 'for f in passwd group shadow gshadow subuid subgid; do [ ! -e /etc/$f ] || sed "s,^,$f:," /etc/$f; '
    "done; ls /var/lib/systemd/linger",
    "listening": "ss -Hltun | awk '{ print $1, $5 }' | sort -u",
    "packages": "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' | sort",
    "network": "ip -o link | sed 's/: <.*//; s/^[0-9]*: //; s/@.*//' | sort; ip rule; ip -6 rule; "
    "ip route show table all | sed 's/ proto.*//' | sort",
    "shared": "ls -A /tmp /var/tmp /dev/shm /run/user /run/private-ai 2>/dev/null | grep -v systemd-private",
}
_ACCOUNT_FILES = {f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}


@dataclass(frozen=True)
class Objects:
    """`files`: path -> what it is, with a digest of its content for those of _DIGESTS; `parts`: the rest, as lines."""

    files: dict[str, str]
    parts: dict[str, list[str]]

    @property
    def packages(self) -> set[str]:
        return {line.split()[0] for line in self.parts["packages"] if line.endswith(" installed")}


def recorded(lab: TestLab, host: str) -> Objects:
    """What a host has now."""
    files = dict(line.rpartition("|")[::2] for line in lab.ssh(host, _FILES).splitlines())
    for line in lab.ssh(host, _DIGESTS).splitlines():
        path, _, digest = line.rpartition("|")
        files[path] = f"{files.get(path, '')} {digest}"
    parts = {name: lab.ssh(host, command, check=False).splitlines() for name, command in _PARTS.items()}
    parts["tables"] = neighbours.tables(lab, host).splitlines()
    return Objects(files, parts)


def differences(
    before: Objects,
    after: Objects,
    stays: Collection[str] = (),
    packages: Collection[str] = (),
    accounts: Collection[str] = (),
) -> list[str]:
    """What is not as it was, in words. `stays` are paths that may be there now with all that is in them, `packages`
    paths that packages have brought meanwhile, `accounts` those that may be there now."""
    found = []
    for path in sorted(before.files.keys() | after.files.keys()):
        was, now = before.files.get(path), after.files.get(path)
        new_and_known = was is None and (
            path in packages or any(within(path, each) or within(each, path) for each in stays)
        )
        if path in _ACCOUNT_FILES and accounts:
            # Their lines are among the parts.
            continue
        if was != now and not new_and_known and not (path in packages and was is not None and now is not None):
            found.append(f"{path}: {was} -> {now}")
    for name in before.parts:
        if name != "packages":
            was_lines, now_lines = before.parts[name], after.parts[name]
            found += [f"{name}: gone: {line}" for line in was_lines if line not in now_lines]
            found += [f"{name}: new: {line}" for line in now_lines if line not in was_lines]
    named = "|".join(map(re.escape, accounts))
    found = [each for each in found if not accounts or not re.match(f"accounts: new: [a-z]+:({named}):", each)]
    gone = before.packages - after.packages
    return [*found, *(f"package {name} has gone" for name in sorted(gone))]


def counted(before: Objects, now: Objects, packages: Collection[str] = ()) -> tuple[int, int]:
    """How many objects a host has that it had not before, and how many of others have changed or gone: files, units,
    accounts, sockets, tables. `packages` are paths that packages have brought meanwhile."""
    was = {*before.files, *(f"{name}: {line}" for name, lines in before.parts.items() for line in lines)}
    has = {*now.files, *(f"{name}: {line}" for name, lines in now.parts.items() for line in lines)}
    # The lines of accounts are among the parts.
    kept = before.files.keys() - _ACCOUNT_FILES - set(packages)
    changed = [path for path in kept if now.files.get(path) != before.files[path]]
    gone = [line for line in was - has if line not in before.files]
    return len(has - was - set(packages)), len(changed) + len(gone)


def brought(lab: TestLab, host: str, before: Objects) -> list[str]:
    """Paths of the packages that were installed since a host was recorded."""
    new = recorded(lab, host).packages - before.packages
    if not new:
        return []
    # Folders in /usr are links to others by now.
    own = lab.ssh(host, f"dpkg -L {' '.join(sorted(new))}").splitlines()
    return [*own, *(f"/usr{path}" for path in own)]


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
