"""From the controller's cache to what a component wants on a host."""

from __future__ import annotations

from artifacts.store import Program as Obtained
from plan.want import Program, ProgramPart


def running_program(unit: str) -> str:
    """A command that prints which program a unit's main process runs: one that was replaced meanwhile shows here."""
    return f"readlink /proc/$(systemctl show --property=MainPID --value {unit})/exe || :"


def program_want(found: Obtained, links: tuple[tuple[str, str], ...]) -> Program:
    """The program as a want, with `links`: path on the host -> path below the program's folder."""
    parts = tuple(
        ProgramPart(file.path, found.directory / file.path, file.sha256, file.size, file.mode, file.link)
        for file in found.files
    )
    return Program(found.name, found.version, parts, links)
