"""Which tests are carried out one after the other by one process: those that share a lab, and those without hosts."""

from __future__ import annotations

import re
from typing import Any

import pytest

#: Files of tests/lab with a lab, or a browser, of their own.
APART = {"test_gateways": "pair", "test_lived_in": "lived-in", "test_enrolment_page": "page"}
#: Files that need people's devices and browsers, or break a deployed house: another lab of topology `single`. They
#: share the folder of enrolment pages.
PEOPLE = ("test_phone", "test_token", "test_ui", "test_diff", "test_health", "test_devices", "test_breakages")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--heard",
        metavar="FOLDER",
        help="a folder in which processes of tests/unit leave the messages that they heard, for test_messages.py",
    )


def group_of(test: str, apart: bool = False) -> str:
    """The group of a test, by its name as pytest writes it. `apart`: each file of tests/unit is one."""
    path, _, name = test.partition("::")
    if not path.startswith("tests/lab/"):
        # Those of tests/unit share what they have heard of messages, unless it is left in a folder.
        return path if apart else path.rpartition("/")[0]
    stem = path.rpartition("/")[2].removesuffix(".py")
    if stem in APART:
        return APART[stem]
    if re.search(r"\[split\b", name):
        return "split"
    return "people" if stem in PEOPLE else "single"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups are carried out side by side, the tests of one in their order (pytest -n 2 --dist loadscope)."""
    # Only those who work on the code have it.
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    apart = bool(config.getoption("--heard"))

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid, apart)

    return Groups(config, log)
