"""Sets and reports the number of Hypothesis's generated cases, and collects the messages of all tests."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from operations.engine.run import begin_run
from tests.unit import messages

#: For every run. The cases are the same each time, so that a failure comes from a change and not from chance.
settings.register_profile("default", derandomize=True, max_examples=25, deadline=None)
#: For long runs (`make fuzz`). The cases differ each time.
settings.register_profile("long", max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)

#: A test's report has the number of generated cases that passed under this name.
PROPERTY = "made-up cases"


@pytest.fixture(autouse=True)
def run() -> None:
    """Begin a new run for each test."""
    begin_run()


def pytest_configure(config: pytest.Config) -> None:
    messages.listen()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The tests of test_messages.py come last: they look at the messages that all other tests have produced.
    items.sort(key=lambda item: item.path.name == "test_messages.py")


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.getoption("--heard")
    if folder and messages.HEARD:
        messages.leave(Path(folder))


def pytest_runtest_teardown(item: pytest.Item) -> None:
    said = getattr(item, "hypothesis_statistics", "")
    if said:
        item.user_properties.append((PROPERTY, sum(map(int, re.findall(r"(\d+) passing", said)))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    everything = [each for found in terminalreporter.stats.values() for each in found]
    reports = [each for each in everything if isinstance(each, pytest.TestReport)]
    cases: list[Any] = [
        value for each in reports if each.when == "teardown" for name, value in each.user_properties if name == PROPERTY
    ]
    if cases:
        terminalreporter.write_line(
            f"hostile input: {sum(cases):,} made-up cases in {len(cases)} tests, profile {PROFILE}"
        )
