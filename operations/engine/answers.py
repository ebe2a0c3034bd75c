"""The answers of hosts to questions (facts). The run remembers them until it changes something.

Questions that operations have registered are sent to a host together, in one remote command.
"""

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
    """A want cannot be known before an earlier operation has run. This is an error unless the run is planning."""


def forget() -> None:
    """Forget all answers."""
    remembered = this_run().answers
    remembered.time += 1
    remembered.known.clear()


def unchanged() -> bool:
    """Whether this run has changed nothing so far, on any host."""
    return this_run().answers.unchanged


def something_changes() -> None:
    """Note that the run is about to change something, and forget the answers of all hosts: a change on one host can
    change the answers of others."""
    this_run().answers.unchanged = False
    forget()


def _itself(of: Host) -> Host:
    """The host object itself. pyinfra's `host` cannot be a key of a dictionary: it always stands for the host that
    pyinfra is working on."""
    return inventory.get_host(of.name)


def is_wanted(on: Host, want: Want) -> None:
    """Register what a component will want on a host, so that the host can be asked about it together with the rest."""
    this_run().answers.wants.setdefault(_itself(on), []).append(want)


def will_ask(of: Host, fact: type[FactBase[Any]], **arguments: Any) -> None:
    """Register a question to a host, so that it can be asked together with the rest."""
    this_run().answers.later.setdefault(_itself(of), []).append(question(fact, arguments))


def ask(of: Host, fact: type[FactBase[T]], **arguments: Any) -> T:
    """A host's answer to one question. If nothing has changed since an earlier answer in this run, it is that answer.

    While the run has changed nothing, all registered questions and wants of the host are asked at the same time. So a
    run that has nothing to change costs one remote command for all operations of a host.
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
    """Ask some questions in one remote command, and remember the answers. Questions that the host does not answer stay
    open.

    The questions about components are merged into one, as if there were one large component. On the host, the time goes
    into starting processes, and this needs fewer of them.
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
    """All registered wants of a host, in the order of the operations. Wants that cannot be known yet are left out."""
    found = []
    for want in this_run().answers.wants.get(_itself(of), ()):
        try:
            found.append(want())
        except NotYet:
            continue
    return found


def _may_gather(of: Host) -> bool:
    """Whether registered wants may be called now. pyinfra must be working on that host, and no other call of its wants
    may be under way."""
    remembered = this_run().answers
    return state.is_executing and remembered.unchanged and of.name == host.name and of not in remembered.gathering


def _expected(of: Host) -> list[Question]:
    """The questions that this run is going to ask a host and has not asked yet, as far as they can be known."""
    remembered = this_run().answers
    remembered.gathering.add(of)
    try:
        wanted = [question(ComponentState, {"component": each}) for each in all_wanted(of)]
    finally:
        remembered.gathering.discard(of)
    return [each for each in (*wanted, *remembered.later.get(of, ())) if (of, each) not in remembered.known]
