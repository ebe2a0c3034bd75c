"""Wait for the end of an upgrade, say how far it is, and take back what was cut off."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator

import click
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from operations.engine.announced_changes import differs
from operations.engine.run_on_host import RemoteError, run_on
from operations.upgrade.scripts import next_phase, started
from plan.engine.difference import Change
from plan.engine.terminal_text import line, plain
from plan.upgrade.notes import ENDED, FOLDER, WORDS, Note, parse_notes
from plan.upgrade.versions import Step


def followed(state: State, host: Host, step: Step) -> bool:
    """Wait for the end of an upgrade, and say how far it is. The host does not need that anybody waits."""
    begun, phase, open_still = time.monotonic(), "ready", 0
    while True:
        try:
            *said, working = run_on(host, next_phase(step.program, phase)).splitlines()
            [note] = parse_notes(filter(None, said))
        except (RemoteError, ValueError) as error:
            logger.error(
                f"{host.print_prefix}{step}: {line(error)}. The host goes on by itself, and goes back by itself if it "
                "has to. Next: run this again in a minute"
            )
            return False
        if note.phase != phase and note.phase in WORDS:
            click.echo(f"    {host.name}: {step}: {WORDS[note.phase]} ({time.monotonic() - begun:.1f} s)", err=True)
        phase = note.phase
        if phase in ENDED:
            break
        open_still = 0 if working == "works" else open_still + 1
        if open_still > 1:
            logger.error(
                f"{host.print_prefix}{step}: somebody has ended it on the host. Next: run this again; it first puts "
                "back what was changed"
            )
            return False
    if phase != "done":
        tell(host, step, note)
        return False
    kept = f"; its data of before ({note.size / 2**20:.1f} MiB) are kept in {FOLDER}/{step.program}"
    only = f"; {line(note.why)}" if note.why else ""
    click.echo(f"    {host.name}: {step}: done{only}{kept if note.size else ''}", err=True)
    return True


def tell(host: Host, step: Step, note: Note) -> None:
    """Say why an upgrade was taken back, with the logs of both versions."""
    folder = f"{FOLDER}/{step.program}"
    try:
        logs = run_on(
            host,
            f'cd {folder} && for f in log.new log.old; do [ ! -e $f ] || {{ echo "$f:"; tail -n 15 $f; }}; done',
        )
    except RemoteError as error:
        logs = f"the logs cannot be read: {error}"
    good = note.phase == "back"
    now = (
        f"{step.old} is back, with its files and data of before, and does what it did"
        if good
        else f"{step.old} is back, and does not do what it did before"
    )
    ended = "run this again to try once more, or deploy another revision" if good else "see docs/upgrade.md#stuck"
    logger.error(
        f"{host.print_prefix}{step} was taken back by the host: {line(note.why)}. {now}. All other parts are as they "
        f"were. The logs of both, from {folder}:\n{plain(logs)}\n    Next: {ended}"
    )


@operation()
def recovered(notes: Collection[Note]) -> Generator[FunctionCommand, None, None]:
    """Own that no upgrade of an earlier run is cut off on this host: what it had changed is put back.

    `notes` are those of the host's profile, so a second run costs no remote command.
    """
    open_ones = [note for note in notes if not note.ended and not note.at_work]
    if not open_ones:
        host.noop("no upgrade is cut off")
        return
    for note in open_ones:
        step = Step(str(host.name), note.program, note.old, note.new)
        differs(Change(f"upgrade {step}", "taken back", "it was cut off"))
        yield FunctionCommand(_recover, (step,), {})


def _recover(state: State, host: Host, step: Step) -> bool:
    try:
        # `|| :`: the note says how it has ended.
        run_on(host, f"{started(step.program, 'recover', '--wait')} || :")
        [note] = parse_notes(run_on(host, f"cat {FOLDER}/{step.program}/note").splitlines())
    except (RemoteError, ValueError) as error:
        logger.error(f"{host.print_prefix}{step} could not be taken back: {line(error)}. Next: run this again")
        return False
    if note.phase == "stuck":
        tell(host, step, note)
    return note.phase != "stuck"
