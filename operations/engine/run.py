"""All that one run remembers until it ends, in one object. Nothing of a run is kept elsewhere.

A process of pyinfra carries out one run. `config.py` begins it; each unit test begins one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakSet

from gevent.lock import Semaphore
from pyinfra.api import Host
from pyinfra.api.exceptions import PyinfraError

from facts.engine.ask_together import Question
from plan.engine.difference import Change
from plan.engine.want import Component

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class CommandLine:
    """The arguments of the command line. `inventory` is the file's name, which pyinfra also makes a group of."""

    inventory: str = ""
    limit: Sequence[str] = ()
    files: Sequence[str] = ()
    #: `--data NAME=TEXT` as it was typed. pyinfra makes a number of 007, and nothing of null.
    data: Mapping[str, str] = field(default_factory=dict)
    #: Nobody is asked, or nothing is to happen.
    yes: bool = False
    dry: bool = False


@dataclass
class Answers:
    """What hosts have answered, see operations/engine/answers.py. `unchanged`: the run has changed nothing yet, on no
    host. An answer is kept while `time` is the one at which it was asked for. `wants` and `later` are what operations
    will ask for."""

    unchanged: bool = True
    time: int = 0
    known: dict[tuple[Host, Question], Any] = field(default_factory=dict)
    wants: dict[Host, list[Callable[[], Component]]] = field(default_factory=dict)
    later: dict[Host, list[Question]] = field(default_factory=dict)
    #: Hosts whose wants are being called, which may ask, too.
    gathering: set[Host] = field(default_factory=set)


@dataclass
class Holds:
    """The hold on this run's hosts, see operations/engine/one_run.py. `wanted`: the run holds them before it changes
    anything. `seen`: name -> what LAST_RUN contained while it planned. `held`: name -> the channel to the process that
    holds the host."""

    wanted: bool = False
    seen: dict[str, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    why_not: PyinfraError | None = None
    #: Hosts are at work side by side, and the first of them asks for all.
    asking: Semaphore = field(default_factory=Semaphore)


@dataclass
class Run:
    """One run. `found`: function -> arguments -> result, of the functions that are decorated with `once_a_run`."""

    command_line: CommandLine = field(default_factory=CommandLine)
    answers: Answers = field(default_factory=Answers)
    holds: Holds = field(default_factory=Holds)
    #: Of planning: name of a host and hash of an operation -> what the operation will change.
    announced: dict[tuple[str, str], tuple[Change, ...]] = field(default_factory=dict)
    #: Connections that were ended because the host did not answer any more.
    silent: WeakSet[Any] = field(default_factory=WeakSet)
    found: dict[Callable[..., Any], dict[tuple[Any, ...], Any]] = field(default_factory=dict)


_run = Run()


def this_run() -> Run:
    """The run that is under way."""
    return _run


def begin_run(command_line: CommandLine | None = None) -> Run:
    """Begin a run that knows nothing but its command line."""
    global _run
    _run = Run(command_line or CommandLine())
    return _run


class once_a_run(Generic[P, R]):
    """Have a function work once in each run for the same arguments, and remember what it returned."""

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        known, given = self.known, (*arguments, *named.items())
        if given not in known:
            known[given] = self._function(*arguments, **named)
        return known[given]

    @property
    def known(self) -> dict[tuple[Any, ...], R]:
        """Arguments -> result, of this run."""
        return this_run().found.setdefault(self, {})
