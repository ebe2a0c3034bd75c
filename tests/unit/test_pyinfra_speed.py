"""The functions that replace pyinfra's own return the same, and pyinfra still calls them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from pyinfra.api import arguments, util

from tasks.engine.pyinfra_speed import Place, frames, place, spare

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def spared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore pyinfra's own functions after the test."""
    for module, name in ((util, "stack"), (util, "getframeinfo"), (arguments, "all_global_arguments")):
        monkeypatch.setattr(module, name, getattr(module, name))
    spare()
    yield


def test_frames_are_those_of_inspect() -> None:
    ours, theirs = frames(), inspect.stack()
    assert [frame for (frame,) in ours] == [each.frame for each in theirs]
    # The first frame is left out: it is this test's own, which is at another line now.
    for (frame,), each in zip(ours[1:], theirs[1:], strict=True):
        assert (place(frame).filename, place(frame).lineno) == (each.frame.f_code.co_filename, each.lineno)


def test_pyinfra_looks_at_frames_by_these_names(spared: None) -> None:
    here = util.get_caller_frameinfo(-1)
    assert isinstance(here, Place)
    line = Path(here.filename).read_text(encoding="utf-8").splitlines()[here.lineno - 1]
    assert line == "    here = util.get_caller_frameinfo(-1)"


def test_the_order_of_operations_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    state: Any = SimpleNamespace(current_deploy_filename=__file__, current_op_file_number=3)

    def order() -> Any:
        return util.get_operation_order_from_stack(state)

    found = []
    for spares in (False, True):
        if spares:
            monkeypatch.setattr(util, "stack", frames)
            monkeypatch.setattr(util, "getframeinfo", place)
        found.append(order())
    assert found[0] == found[1] and len(found[0]) >= 2


def test_the_arguments_are_the_same_and_worked_out_once(spared: None) -> None:
    found = arguments.all_global_arguments()
    assert found is arguments.all_global_arguments()
    assert found == list(get_type_hints(arguments.AllArguments).items())


def test_what_stays_is_not_searched_for_garbage() -> None:
    script = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > before))
from tasks.engine.pyinfra_speed import OBJECTS_BETWEEN_COLLECTIONS, collect_less
collect_less()
before = gc.get_freeze_count()
print(before > 1000, gc.isenabled(), gc.get_threshold()[0] == OBJECTS_BETWEEN_COLLECTIONS)
more = [[number] for number in range(1000)]
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 4
