"""Everything that one run remembers until it ends, in one object. No other module keeps data of a run.

A process of pyinfra carries out one run. `config.py` begins it. Each unit test begins a run of its own.
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
    #: `--data NAME=TEXT` as it was typed. pyinfra turns 007 into a number, and null into None.
    data: Mapping[str, str] = field(default_factory=dict)
    #: Whether -y was given (nobody is asked), and whether --dry was given (nothing is executed).
    yes: bool = False
    dry: bool = False


@dataclass
class Answers:
    """What hosts have answered, see operations/engine/answers.py.

    `unchanged`: the run has changed nothing so far, on any host. `time` counts how often the answers were forgotten: an
    answer is kept only if `time` is still the same as when the question was asked. `wants` and `later` are what
    operations have registered and will ask for.
    """

    unchanged: bool = True
    time: int = 0
    known: dict[tuple[Host, Question], Any] = field(default_factory=dict)
    wants: dict[Host, list[Callable[[], Component]]] = field(default_factory=dict)
    later: dict[Host, list[Question]] = field(default_factory=dict)
    #: Hosts whose wants are being called at the moment. Such a call may ask questions itself.
    gathering: set[Host] = field(default_factory=set)


@dataclass
class Holds:
    """How this run holds its hosts, see operations/engine/one_run.py.

    `wanted`: whether the run must hold its hosts before it changes anything. `seen`: host name -> content of LAST_RUN
    while the run planned. `held`: host name -> the channel to the process that holds the host. `why_not`: the error, if
    the hosts could not be held.
    """

    wanted: bool = False
    seen: dict[str, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    why_not: PyinfraError | None = None
    #: Operations run on several hosts at the same time. The first one holds all hosts; the others wait for it.
    asking: Semaphore = field(default_factory=Semaphore)


@dataclass
class Run:
    """One run. `found`: function -> arguments -> result, of the functions that are decorated with `once_a_run`."""

    command_line: CommandLine = field(default_factory=CommandLine)
    answers: Answers = field(default_factory=Answers)
    holds: Holds = field(default_factory=Holds)
    #: Filled while planning: (name of a host, hash of an operation) -> what the operation will change.
    announced: dict[tuple[str, str], tuple[Change, ...]] = field(default_factory=dict)
    #: Connections that were ended because the host did not answer any more.
    silent: WeakSet[Any] = field(default_factory=WeakSet)
    found: dict[Callable[..., Any], dict[tuple[Any, ...], Any]] = field(default_factory=dict)


_run = Run()


def this_run() -> Run:
    """The current run."""
    return _run


def begin_run(command_line: CommandLine | None = None) -> Run:
    """Begin a new run, of which only the command line is known."""
    global _run
    _run = Run(command_line or CommandLine())
    return _run


class once_a_run(Generic[P, R]):
    """A decorator: in each run, the function is called once for the same arguments, and its result is remembered."""

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
        """Arguments -> result, for the calls of this run."""
        return this_run().found.setdefault(self, {})
