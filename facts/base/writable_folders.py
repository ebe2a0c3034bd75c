"""Reads the part of a host's profile about which folders can be written, and on which file systems they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from plan.base.capabilities import FOLDERS
from plan.base.writable_folders import OWN_FOLDERS, PASSED, WRITTEN, Mount, Storage, fleeting

# Sections of the script in facts/base/profile.py. They come after those of facts/base/capabilities.py, and use its
# variable `lie`, which has df's output.
# unwritable: `[ -w` uses access(2), which also refuses root when a file is immutable or its file system is read-only.
# mounts: the kernel writes a space in a name as \040, so mounts with a space in their name are left out.
# command-line: not in a container, where the kernel's command line belongs to the machine around it.
SECTIONS = rf"""s unwritable; for p in {" ".join(WRITTEN)}; do [ ! -e "$p" ] || [ -w "$p" ] || echo "$p"; done
s passed; stat -L -c '%A %n' {" ".join(PASSED)}
s mounts; while read -r _ t y o _; do case "$lie
" in *" $t
"*) echo "$t $y $o" ;; *) [ "$t" != / ] || echo "$t $y $o" ;; esac; done </proc/mounts
s links; for p in {" ".join(OWN_FOLDERS)}; do [ ! -L "$p" ] || echo "$p $(readlink -m "$p")"; done
s command-line; [ -e /run/systemd/container ] || f /proc/cmdline
"""


def parse_storage(sections: Mapping[str, list[str]], targets: list[str]) -> Storage:
    """The Storage from the output's sections. `targets`: where the file systems of FOLDERS are mounted. Raises KeyError
    for a missing section, ValueError for one of another form."""
    # Of several mounts at one place, the last one hides the others.
    mounts = {mount.at: mount for mount in _mounts(sections["mounts"])}
    command_line = " ".join(sections["command-line"])
    root = mounts["/"].kind if "/" in mounts else ""
    return Storage(
        unwritable=tuple(sections["unwritable"]),
        impassable=tuple(path for mode, _, path in map(_mode, sections["passed"]) if mode[9:10] not in ("x", "t")),
        below=tuple((folder, mounts[at]) for folder, at in zip(FOLDERS, targets, strict=True) if at in mounts),
        fleeting=fleeting(command_line, root) if command_line else "",
        links=tuple((path, target) for path, _, target in (said.partition(" ") for said in sections["links"])),
    )


def _mode(said: str) -> tuple[str, str, str]:
    return said.partition(" ")


def _mounts(lines: list[str]) -> Iterator[Mount]:
    for line in lines:
        at, kind, options = line.split(" ")
        yield Mount(at, kind, frozenset(options.split(",")))
