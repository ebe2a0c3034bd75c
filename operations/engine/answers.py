"""What hosts were asked holds until the run changes something; what is going to be asked is asked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pyinfra import host, inventory, state
from pyinfra.api import FactBase, Host

from facts.engine.ask_together import UNTOLD, Question, Together, question
from facts.engine.component_state import ComponentState
from operations.engine.run import this_run
from plan.engine.want import Component, Have, covers, in_parts, merged, united

T = TypeVar("T")
Want = Callable[[], Component]


class NotYet(Exception):
    """A want cannot be known before an earlier operation has run; only fine while planning."""


def forget() -> None:
    """What is known is not known any more."""
    remembered = this_run().answers
    remembered.time += 1
    remembered.known.clear()


def unchanged() -> bool:
    """Whether this run has changed nothing so far, on any host."""
    return this_run().answers.unchanged


def something_changes() -> None:
    """Forget, of all hosts: a change on one may be seen on others."""
    this_run().answers.unchanged = False
    forget()


def _itself(of: Host) -> Host:
    """The host: pyinfra's `host` stands for whichever host it is the turn of, also when it is kept as a key."""
    return inventory.get_host(of.name)


def is_wanted(on: Host, want: Want) -> None:
    """Say before the run what will be wanted, so that it can be asked for with the rest."""
    this_run().answers.wants.setdefault(_itself(on), []).append(want)


def will_ask(of: Host, fact: type[FactBase[Any]], **arguments: Any) -> None:
    """Say before the run what will be asked, so that it can be asked with the rest."""
    this_run().answers.later.setdefault(_itself(of), []).append(question(fact, arguments))


def ask(of: Host, fact: type[FactBase[T]], **arguments: Any) -> T:
    """A host's answer, from earlier in this run when nothing has changed since.

    While the run has changed nothing, all that was said to be wanted or asked of the host is asked with it: a run that
    finds everything as it should be costs one remote command for all of a host's operations.
    """
    remembered = this_run().answers
    itself, asked = _itself(of), question(fact, arguments)
    if (itself, asked) not in remembered.known and _may_gather(itself):
        rest = _expected(itself)
        if set(rest) - {asked}:
            ask_together(itself, [asked, *rest])
    now = remembered.time
    if (itself, asked) in remembered.known:
        return remembered.known[itself, asked]  # type: ignore[no-any-return]
    answer: T = of.get_fact(fact, **arguments)
    if remembered.time == now:
        remembered.known[itself, asked] = answer
    return answer


def ask_together(of: Host, questions: Iterable[Question]) -> None:
    """Have the answers to some questions at hand, for one remote command. What a host does not tell is not.

    What components want is asked as if it were one component's: a process of the host for each is what takes its time.
    """
    remembered = this_run().answers
    itself, now = _itself(of), remembered.time
    open_ones = [each for each in dict.fromkeys(questions) if (itself, each) not in remembered.known]
    components = {each: dict(each[1])["component"] for each in open_ones if each[0] is ComponentState}
    whole = merged(components.values())
    parts = [question(ComponentState, {"component": part}) for part in in_parts(whole)]
    asked = (*(each for each in open_ones if each not in components), *parts)
    found: tuple[Any, ...] = of.get_fact(Together, questions=asked) if asked else ()
    if remembered.time != now:
        return
    told = {each: answer for each, answer in zip(asked, found, strict=False) if answer is not UNTOLD}
    if told.keys() >= set(parts):
        have = united(told.pop(part) for part in parts)
        told |= {each: have for each, component in components.items() if covers(whole, component)}
    remembered.known |= {(itself, each): answer for each, answer in told.items() if each in open_ones}


def have_of(of: Host, wanted: Component) -> Have:
    """What a host has of a component."""
    return ask(of, ComponentState, component=wanted)


def all_wanted(of: Host) -> list[Component]:
    """What was said to be wanted on a host, in the order of the operations, but for what cannot be known yet."""
    found = []
    for want in this_run().answers.wants.get(_itself(of), ()):
        try:
            found.append(want())
        except NotYet:
            continue
    return found


def _may_gather(of: Host) -> bool:
    """Wants are called in the name of the host that they are of, and not by each other."""
    remembered = this_run().answers
    return state.is_executing and remembered.unchanged and of.name == host.name and of not in remembered.gathering


def _expected(of: Host) -> list[Question]:
    """What this run is going to ask a host and has not asked yet, as far as it can be known."""
    remembered = this_run().answers
    remembered.gathering.add(of)
    try:
        wanted = [question(ComponentState, {"component": each}) for each in all_wanted(of)]
    finally:
        remembered.gathering.discard(of)
    return [each for each in (*wanted, *remembered.later.get(of, ())) if (of, each) not in remembered.known]
