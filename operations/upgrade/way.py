"""Give a program of a host another version: the host does it by itself, and takes it back by itself."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pyinfra.api import FunctionCommand, StringCommand

from facts.engine.component_state import STAMPS, inputs_digest, unit_call
from operations.engine.component import commands, start_unit
from operations.upgrade.follow import followed
from operations.upgrade.scripts import PROGRAM, archive, journal, packed, ready, restart, started, stop, unit_at_boot
from plan.engine.claims import UNITS
from plan.engine.difference import Difference
from plan.engine.stamp import PATH as STAMP
from plan.engine.want import File, Unit
from plan.upgrade.notes import FOLDER, at_boot
from plan.upgrade.room import DATA
from plan.upgrade.versions import Step


@dataclass(frozen=True)
class Way:
    """How a program is upgraded on one host.

    `look`: a shell command that prints what the program does, as far as it counts; it fails when that cannot be told.
    `attempt`: a command before each look. A program that was just started is looked at `tries` times, with `pause`
    seconds in between; the old version, before it is stopped, `looks` times, a second apart. `waits`: units that at a
    boot must not start before an upgrade that was cut off is taken back.
    """

    step: Step
    look: str
    waits: tuple[str, ...]
    attempt: str = ":"
    tries: int = 45
    pause: int = 1
    looks: int = 1
    #: Files that the program's start depends on, and that no component writes.
    keeps: tuple[str, ...] = ()

    def __call__(self, todo: Difference) -> Generator[StringCommand | FunctionCommand, None, None]:
        """Make all changes of a component: those of files, links and units in one go, which can be taken back."""
        stopped = tuple(unit for unit in todo.units if unit.stopped)
        yield from commands(replace(todo, links=(), files=(), units=stopped))
        units = tuple(unit for unit in todo.units if not unit.stopped)
        yield StringCommand(begin_script(self, todo.files), _stdin=packed(job(self, todo.links, todo.files, units)))
        yield FunctionCommand(followed, (self.step,), {})


def job(
    way: Way, links: Iterable[tuple[str, str]], files: Sequence[File], units: Sequence[Unit]
) -> Mapping[str, str | bytes]:
    """The files of an upgrade: name -> content. See files/upgrade/upgrade.sh."""
    made, links = way.step, tuple(links)
    data = DATA.get(made.program)
    names = {
        "PROGRAM": made.program,
        "OLD": made.old,
        "NEW": made.new,
        "UNITS": UNITS,
        "AT_BOOT": at_boot(made.program),
        "ACCOUNT": data.account if data else "",
        "DATA": data.folder if data else "",
        "LEFT_OUT": data.left_out if data else "",
        "TRIES": str(way.tries),
        "PAUSE": str(way.pause),
        "LOOKS": str(way.looks),
    }
    # After a first message, or a wait, that `attempt` and `look` make themselves, with limits of their own.
    own = [replace(unit, then="") for unit in units]
    paths = [*(file.path for file in files), *(link for link, _ in links), *way.keeps]
    return {
        "upgrade": PROGRAM.read_text(encoding="utf-8"),
        "job": "".join(f"{name}={shlex.quote(value)}\n" for name, value in names.items()),
        "paths": "".join(f"{path}\n" for path in (*paths, *(f"{STAMPS}/{unit.name}" for unit in own))),
        "gone": "",
        "after.tar": archive(files, links),
        "look": f"{way.look}\n",
        "attempt": f"{way.attempt}\n",
        "stop": "".join(f"{stop(unit)}\n" for unit in reversed(own)),
        "start": "".join(f"{start_unit(unit)}\n" for unit in own),
        "restart": "".join(f"{restart(unit)}\n" for unit in own),
        "active": "".join(f"{unit_call(unit.user, f'is-active {shlex.quote(unit.name)}')} || exit 1\n" for unit in own),
        "stamp": "".join(f"{{ {inputs_digest(unit)}; }} > {shlex.quote(f'{STAMPS}/{unit.name}')}\n" for unit in own),
        "journal": "".join(f"{journal(unit)}\n" for unit in own if not unit.name.endswith(".timer")),
    }


def begin_script(way: Way, files: Sequence[File]) -> str:
    """A script that puts an upgrade's files, from standard input, into their folder, checks them, and has the host
    begin. The folder of the upgrade before goes: there is one way back, the last one."""
    folder, step = f"{FOLDER}/{way.step.program}", way.step
    lines = [
        f"set -e; umask 077; install -d -m 0700 {FOLDER}; rm -rf {folder}.part; mkdir {folder}.part; cd {folder}.part",
        "base64 -d | tar --extract --file=-",
        "mkdir check; tar --extract -p --file=after.tar --directory=check",
        *(file.check.replace("{}", shlex.quote(f"{folder}.part/check{file.path}")) for file in files if file.check),
        f"rm -r check; {ready(step)}",
        f'sed -n \'s/^ *"revision": "\\([^"]*\\)",$/\\1/p\' {STAMP} >revision || :',
        f"sync {folder}.part/* {folder}.part; rm -rf {folder}; cd {FOLDER}; mv -T {folder}.part {folder}; sync .",
        unit_at_boot(step.program, way.waits),
        started(step.program, "run"),
    ]
    return "\n".join(lines)
