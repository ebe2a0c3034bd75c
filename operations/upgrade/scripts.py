"""What a host gets for an upgrade, and the commands with which it is begun and watched."""

from __future__ import annotations

import base64
import io
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from facts.engine.component_state import unit_call
from plan.engine.claims import UNITS
from plan.engine.want import File, Unit
from plan.upgrade.notes import FOLDER, UNIT, at_boot
from plan.upgrade.versions import Step

#: The program on the host that does it. Each upgrade brings its own.
PROGRAM = Path(__file__).parents[2] / "files/upgrade/upgrade.sh"
#: Seconds for which one question to the host waits for the next phase.
PATIENCE = 15


def stop(unit: Unit) -> str:
    """A script that stops a unit, and a service that the unit, a timer, has started."""
    names = [unit.name]
    if unit.name.endswith(".timer"):
        names.append(unit.name.replace(".timer", ".service"))
    return unit_call(unit.user, f"stop {shlex.join(names)}")


def restart(unit: Unit) -> str:
    """A script that starts a unit anew with the files that are there."""
    name = shlex.quote(unit.name)
    return f"{unit_call(unit.user, 'daemon-reload')}\n{unit_call(unit.user, f'restart {name}')}"


def journal(unit: Unit) -> str:
    """A command that prints the unit's last lines in the journal."""
    which = f"_SYSTEMD_USER_UNIT={shlex.quote(unit.name)}" if unit.user else f"--unit={shlex.quote(unit.name)}"
    return f"journalctl --no-pager --quiet --lines=25 {which}"


def archive(files: Iterable[File], links: Iterable[tuple[str, str]]) -> bytes:
    """A tar archive of files and links under their own names."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for file in files:
            entry, content = tarfile.TarInfo(file.path.lstrip("/")), file.content.encode()
            entry.size, entry.mode = len(content), int(file.mode, 8)
            entry.uname, entry.gname = file.owner, file.group
            tar.addfile(entry, io.BytesIO(content))
        for link, target in links:
            entry = tarfile.TarInfo(link.lstrip("/"))
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            entry.uname = entry.gname = "root"
            tar.addfile(entry)
    return data.getvalue()


def packed(files: Mapping[str, str | bytes]) -> str:
    """A tar archive of an upgrade's files, as base64 lines."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uname, entry.gname = len(raw), 0o600, "root", "root"
            tar.addfile(entry, io.BytesIO(raw))
    return base64.encodebytes(data.getvalue()).decode()


def ready(step: Step) -> str:
    words = shlex.join([step.program, step.old, step.new])
    return f'printf "%s %s %s ready %s 0\\n\\n" {words} "$(date +%s)" >note'


def unit_at_boot(program: str, waits: Sequence[str]) -> str:
    """A script that writes the unit that takes an upgrade back at a boot. The upgrade removes it at its end."""
    name, folder = at_boot(program), UNITS
    text = "\n".join(
        [
            "[Unit]",
            f"Description=Take back an upgrade of {program} that was cut off",
            f"RequiresMountsFor={FOLDER} /opt /var/lib/{program}",
            f"Before={' '.join(waits)}",
            "[Service]",
            "Type=oneshot",
            f"ExecStart=/bin/sh {FOLDER}/{program}/upgrade boot",
            "TimeoutStartSec=600",
            "",
        ]
    )
    wants = f"{folder}/multi-user.target.wants"
    return (
        f"(umask 022; mkdir -p {wants}; printf %s {shlex.quote(text)} >{folder}/{name}; "
        f"ln -sfn ../{name} {wants}/{name}; sync {folder}/{name} {wants})"
    )


def started(program: str, verb: str, *how: str) -> str:
    unit = f"systemd-run --quiet --collect --unit={UNIT}-{program} {' '.join(how)}"
    return f"{unit} /bin/sh {FOLDER}/{program}/upgrade {verb}"


def next_phase(program: str, phase: str) -> str:
    """A script that waits until an upgrade has left a phase, then prints its note, and whether it is worked on."""
    works = f"systemctl --quiet is-active {UNIT}-{program}.service"
    return "\n".join(
        [
            f"cd {FOLDER}/{program} || exit 1",
            f"for i in $(seq {PATIENCE * 5}); do read -r _ _ _ now _ <note",
            f'if [ "$now" != {shlex.quote(phase)} ] || ! {works}; then break; fi; sleep 0.2; done',
            f"cat note; if {works}; then echo works; else echo rests; fi",
        ]
    )
