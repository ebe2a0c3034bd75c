"""How many cases Hypothesis makes up, and how many they were; and the messages of all tests are kept."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, settings

from tests.unit import messages

#: For every run: the same cases each time, so that a run says something about the change and not about luck.
settings.register_profile("default", derandomize=True, max_examples=25, deadline=None)
#: For whoever has time (`make fuzz`): others each time.
settings.register_profile("long", max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)

#: Made-up cases that passed, by test.
CASES = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CASES] = {}
    messages.listen()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They look at what the others have produced.
    items.sort(key=lambda item: item.path.name == "test_messages.py")


def pytest_runtest_teardown(item: pytest.Item) -> None:
    said = getattr(item, "hypothesis_statistics", "")
    if said:
        item.config.stash[CASES][item.nodeid] = sum(map(int, re.findall(r"(\d+) passing", said)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    cases = config.stash[CASES]
    if cases:
        terminalreporter.write_line(
            f"hostile input: {sum(cases.values()):,} made-up cases in {len(cases)} tests, profile {PROFILE}"
        )
