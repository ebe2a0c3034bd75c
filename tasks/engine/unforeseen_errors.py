"""Unexpected errors: a message of one line says what happened, and a file keeps where in the code it happened."""

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

#: The file is in the folder in which the run was started. pyinfra uses the same name.
LOG = Path("pyinfra-debug.log")

_execute = CALL_FUNCTION.now()


def in_words(state: Any) -> None:
    """Show every error of this run as one line, where pyinfra or gevent would print a traceback. If the run ends
    because hosts have failed, the message names them."""
    CALL_FUNCTION.put(execute)
    TELL_OF_A_FACT.put(unanswered)
    replace_gevents_traceback(background)
    SHOW_OWN_ERROR.put(show)
    SHOW_OTHER_ERROR.put(show)
    theirs = SHOW_EXPECTED_ERROR.now()
    SHOW_EXPECTED_ERROR.put(lambda self, file=None: (show if raised_by_us(self.exception) else theirs)(self, file))
    # pyinfra says "No hosts remaining!" and "Over 0% of hosts failed (50%)".
    when_hosts_fail(state, failed)
    # The file may be from an earlier run.
    with contextlib.suppress(OSError):
        LOG.unlink()


def execute(command: FunctionCommand, state: State, host: Host, arguments: Any) -> Any:
    """Call an operation's function. If it raises an error, a line with the host's name shows it, and the operation
    fails."""
    try:
        return _execute(command, state, host, arguments)
    except (NestedOperationError, TimeoutError):
        raise
    except Exception as error:
        logger.error(f"{host.print_prefix}{told(error)}")
        return False


def unanswered(host: Host, *_: Any, description: str = "", exception: Exception | None = None) -> None:
    """Report that a host has not answered a question, or has answered in an unknown form. pyinfra would print Python's
    error instead of our message, and the whole question, which can be very long."""
    fact = description.partition(": ")[2].partition(" ")[0]
    said = told(exception) if exception else f"it has not answered {fact}. {AGAIN}"
    logger.error(f"{host.print_prefix}{said}")


def background(context: Any, kind: Any, error: Any, trace: Any) -> None:
    """Keep an unexpected error that has ended a greenlet; gevent would print its traceback. Code that waits for the
    greenlet gets the error too, and shows it."""
    if isinstance(error, Exception) and not isinstance(error, PyinfraError):
        keep(error)


def show(shown: Any, file: Any = None) -> None:
    """Show an error that ends the run; pyinfra would print a traceback."""
    logger.error(f"--> {told(shown.exception)}")


def failed(state: Any) -> PyinfraError:
    """The error that ends a run in which hosts have failed. pyinfra's own message does not name the hosts."""
    names = ", ".join(sorted(str(host.name) for host in state.failed_hosts))
    return PyinfraError(f"the run ends for all hosts, because {names} failed, see above; {ended(state)}")


def raised_by_us(error: BaseException) -> bool:
    """Whether the code of this project has raised an error, and not pyinfra or Python."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return ours(last)


def ours(frame: traceback.FrameSummary) -> bool:
    """Whether this is a line of this project's code."""
    return "site-packages" not in frame.filename and "/lib/python" not in frame.filename


def told(error: BaseException) -> str:
    """The text of an error for people. An error of this project says everything itself. Of any other error, the
    traceback is written to LOG."""
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
    # In the text of a syntax error, Python names the file itself.
    where = "" if isinstance(error, SyntaxError) else where
    return f"{type(error).__name__}: {text}{where}. {keep(error)}"


def keep(error: BaseException) -> str:
    """Write an error's traceback to LOG, which no other account can read. Returns the sentence that says where it
    is."""
    lines = traceback.format_exception(error)
    try:
        with os.fdopen(os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8") as log:
            log.writelines(lines)
    except OSError as problem:
        return f"Where it came from could not be written to {LOG} ({problem.strerror})"
    return f"Where it came from is in {LOG.resolve()}"
