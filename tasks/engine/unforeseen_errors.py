"""Errors that nobody has foreseen: one line says what, a file keeps where in the code it came from."""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path
from typing import Any

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State
from pyinfra.api.exceptions import NestedOperationError, PyinfraError

from operations.engine.pyinfra_inside import (
    CALL_FUNCTION,
    SHOW_EXPECTED_ERROR,
    SHOW_OTHER_ERROR,
    SHOW_OWN_ERROR,
    TELL_OF_A_FACT,
    replace_gevents_traceback,
    when_hosts_fail,
)
from plan.engine.errors import AGAIN
from plan.engine.terminal_text import line
from tasks.engine.ending import ended

#: In the folder in which the run was started; the name is pyinfra's.
LOG = Path("pyinfra-debug.log")

_execute = CALL_FUNCTION.now()


def in_words(state: Any) -> None:
    """Have every error of this run told in a line, wherever pyinfra or gevent would print a traceback, and the end for
    want of hosts by their names."""
    CALL_FUNCTION.put(execute)
    TELL_OF_A_FACT.put(unanswered)
    replace_gevents_traceback(background)
    SHOW_OWN_ERROR.put(show)
    SHOW_OTHER_ERROR.put(show)
    theirs = SHOW_EXPECTED_ERROR.now()
    SHOW_EXPECTED_ERROR.put(lambda self, file=None: (show if raised_by_us(self.exception) else theirs)(self, file))
    # pyinfra says "No hosts remaining!" and "Over 0% of hosts failed (50%)".
    when_hosts_fail(state, failed)
    # Of an earlier run.
    with contextlib.suppress(OSError):
        LOG.unlink()


def execute(command: FunctionCommand, state: State, host: Host, arguments: Any) -> Any:
    """Carry out an operation's function; what it raises is told on its host's line, and the operation has failed."""
    try:
        return _execute(command, state, host, arguments)
    except (NestedOperationError, TimeoutError):
        raise
    except Exception as error:
        logger.error(f"{host.print_prefix}{told(error)}")
        return False


def unanswered(host: Host, *_: Any, description: str = "", exception: Exception | None = None) -> None:
    """A question that a host has not answered, or in another form than is known. pyinfra would tell what Python said of
    that and not what we say, and the whole question, which names all that a component wants."""
    fact = description.partition(": ")[2].partition(" ")[0]
    said = told(exception) if exception else f"it has not answered {fact}. {AGAIN}"
    logger.error(f"{host.print_prefix}{said}")


def background(context: Any, kind: Any, error: Any, trace: Any) -> None:
    """What ended a greenlet, in the place of gevent's own traceback. Whoever waits for it gets the error as well."""
    if isinstance(error, Exception) and not isinstance(error, PyinfraError):
        keep(error)


def show(shown: Any, file: Any = None) -> None:
    """An error that ends the run, in the place of pyinfra's own traceback."""
    logger.error(f"--> {told(shown.exception)}")


def failed(state: Any) -> PyinfraError:
    """What ends a run in which a host has failed, for people."""
    names = ", ".join(sorted(str(host.name) for host in state.failed_hosts))
    return PyinfraError(f"the run ends for all hosts, because {names} failed, see above; {ended(state)}")


def raised_by_us(error: BaseException) -> bool:
    """Whether our code has raised an error, not pyinfra's or Python's."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return ours(last)


def ours(frame: traceback.FrameSummary) -> bool:
    """Whether this is a line of our code."""
    return "site-packages" not in frame.filename and "/lib/python" not in frame.filename


def told(error: BaseException) -> str:
    """What people read of an error. Ours say everything themselves; of others it is kept where they came from."""
    text = "\n".join(map(line, str(error).splitlines()))
    if isinstance(error, PyinfraError) or getattr(error, "next_step", None):
        return text
    where = next(
        (
            f" ({Path(frame.filename).name}, line {frame.lineno})"
            for frame in reversed(traceback.extract_tb(error.__traceback__))
            if ours(frame)
        ),
        "",
    )
    # Python names the file of a syntax error itself.
    where = "" if isinstance(error, SyntaxError) else where
    return f"{type(error).__name__}: {text}{where}. {keep(error)}"


def keep(error: BaseException) -> str:
    """Write an error's traceback into LOG, for nobody else to read, and say so."""
    lines = traceback.format_exception(error)
    try:
        with os.fdopen(os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8") as log:
            log.writelines(lines)
    except OSError as problem:
        return f"Where it came from could not be written to {LOG} ({problem.strerror})"
    return f"Where it came from is in {LOG.resolve()}"
