"""What hosts were asked holds until the run changes something; for all its components a host is asked at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pyinfra import inventory, state
from pyinfra.api import FactBase, Host

from facts.have import ComponentStates
from plan.want import Component, Have

T = TypeVar("T")
Want = Callable[[], Component]


class NotYet(Exception):
    """A want cannot be known before an earlier operation has run; only fine while planning."""


@dataclass
class _Run:
    """This run: `unchanged` says that it has changed nothing yet, on no host. An answer is kept when the `time` is
    still the one at which it was asked for."""

    unchanged: bool = True
    time: int = 0
    answers: dict[tuple[Host, type, Any], Any] = field(default_factory=dict)
    wants: dict[Host, list[Want]] = field(default_factory=dict)


_RUN = _Run()


def forget() -> None:
    """What is known is not known any more."""
    _RUN.time += 1
    _RUN.answers.clear()


def something_changes() -> None:
    """Forget, of all hosts: a change on one may be seen on others."""
    _RUN.unchanged = False
    forget()


def _itself(of: Host) -> Host:
    """The host: pyinfra's `host` stands for whichever host it is the turn of, also when it is kept as a key."""
    return inventory.get_host(of.name)


def ask(of: Host, fact: type[FactBase[T]], **arguments: Any) -> T:
    """A host's answer, from earlier in this run when nothing has changed since."""
    key, now = (_itself(of), fact, tuple(sorted(arguments.items()))), _RUN.time
    if key in _RUN.answers:
        return _RUN.answers[key]  # type: ignore[no-any-return]
    answer: T = of.get_fact(fact, **arguments)
    if _RUN.time == now:
        _RUN.answers[key] = answer
    return answer


def is_wanted(on: Host, want: Want) -> None:
    """Say before the run what will be wanted, so that it can be asked for together."""
    _RUN.wants.setdefault(_itself(on), []).append(want)


def have_of(of: Host, wanted: Component) -> Have:
    """What a host has of a component. While the run has changed nothing, all that is wanted there is asked for with it:
    a run that finds everything as wanted costs one remote command for all components of a host."""
    itself, now = _itself(of), _RUN.time
    if (itself, ComponentStates, wanted) in _RUN.answers:
        return _RUN.answers[itself, ComponentStates, wanted]  # type: ignore[no-any-return]
    together = dict.fromkeys([wanted, *(_all_wanted(itself) if state.is_executing and _RUN.unchanged else ())])
    found: tuple[Have, ...] = of.get_fact(ComponentStates, components=tuple(together))
    if _RUN.time == now:
        for each, seen in zip(together, found, strict=True):
            _RUN.answers[itself, ComponentStates, each] = seen
    return found[0]


def _all_wanted(of: Host) -> list[Component]:
    found = []
    for want in _RUN.wants.get(of, ()):
        try:
            found.append(want())
        except NotYet:
            continue
    return found
