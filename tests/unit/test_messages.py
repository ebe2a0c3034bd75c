"""Every message with which a first deployment can end is in docs/troubleshooting.md, and a test has produced it.

These tests are the last ones of a whole run (tests/unit/conftest.py), because they look at the messages that all other
tests have produced.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyinfra
import pytest

from plan.house.access_table import parse_access
from tests.unit import houses
from tests.unit.messages import ROOT, files, places, read

PAGE = ROOT / "docs/troubleshooting.md"
#: Words in capitals in a row stand for parts that differ from case to case. But these words are part of the messages.
NAMES = {"SSH", "VPN", "RAM", "CA", "CPU", "GPU", "HOME", "XDG_CACHE_HOME", "PRIVATE_AI_RELEASE_MIRROR", "RPM"}
#: Messages that a program on a host or on this computer writes: words of the message -> the test that produces it.
WRITTEN = {
    "they were taken back already": "tests/unit/test_ends.py",
    "is not a folder of root": "tests/unit/test_upload.py",
    "is not a folder, or lies behind a link": "tests/unit/test_planted.py",
    "it was cut off": "tests/unit/test_ends.py",
    "was not ready within": "tests/unit/test_ends.py",
    "is not started again": "tests/unit/test_ends.py",
    "is not a file of": "tests/unit/test_backup.py",
    "the copy of Headscale's database is damaged": "tests/unit/test_backup.py",
    "the key of the authority is not that of its certificate": "tests/unit/test_backup.py",
    "the systemd of the account": "tests/unit/test_ends.py",
    "has no day left": "tests/unit/test_ca.py",
    "the successor of": "tests/unit/test_ca.py",
    "is for another key": "tests/unit/test_ca.py",
    "Ollama does not answer with": "tests/unit/test_ends.py",
    "it has not answered": "tests/unit/test_ends.py",
    "Ended by": "tests/unit/test_ending.py",
    "pyinfra-debug.log": "tests/unit/test_ending.py",
}
#: Messages of pyinfra itself: words of the message -> the test that produces it.
PYINFRAS = dict.fromkeys(
    (
        "Could not connect",
        "Could not resolve hostname",
        "Authentication error",
        "SSH host key error",
        "SSH error",
        "No such private key file",
        "Invalid private key file",
    ),
    "tests/unit/test_reach.py",
)
#: Messages that only a lab can produce: words of the message -> the test that does.
IN_A_LAB = {"not confirmed by a new SSH connection": "tests/lab/test_lockout.py"}


@cache
def rows() -> tuple[str, ...]:
    """The messages in the tables of the page, unchanged."""
    return tuple(_rows(PAGE.read_text(encoding="utf-8")))


def _rows(page: str) -> Iterator[str]:
    inside = False
    for row in page.splitlines():
        if not row.startswith("|"):
            inside = False
        elif row.startswith("| message"):
            inside = True
        elif inside:
            yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


def pattern(row: str) -> str:
    """A regular expression for a row's message. Three dots stand for any text, also for none."""
    parts = re.split(r"(\.\.\.|\b[A-Z][A-Z_]*\b)", row)
    return "".join(
        ".*?" if part == "..." else ".{1,80}?" if number % 2 and part not in NAMES else re.escape(part)
        for number, part in enumerate(parts)
    )


def tells(row: str, said: list[str]) -> bool:
    """Whether a row describes one of these messages."""
    wanted = re.compile(pattern(row), re.DOTALL)
    return any(map(wanted.search, said))


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> None:
    """Skip a test unless all unit tests have run before: it needs the messages of all of them."""
    if folder := request.config.getoption("--heard"):
        read(Path(folder))
        return
    there = {Path(item.fspath).name for item in request.session.items}
    missing = {file.name for file in Path(__file__).parent.glob("test_*.py")} - there
    if missing or request.config.option.keyword:
        pytest.skip("needs the messages of all unit tests: run tests/unit as a whole")


def test_every_message_of_the_code_is_produced_by_a_test(whole: None) -> None:
    silent = [place for place in places() if not place.heard() and not any(word in place.words for word in IN_A_LAB)]
    assert not silent, "no unit test produces these messages; write one, or remove the code:\n" + "\n".join(
        map(str, silent)
    )


def test_every_message_of_the_code_has_its_row(whole: None) -> None:
    missing = []
    for place in places():
        said = place.heard()
        if said and not any(tells(row, said) for row in rows()):
            missing.append(f"{place}\n    for example: {said[0][:300]}")
    assert not missing, (
        "no table in docs/troubleshooting.md has these messages; add a row, with words in capitals for what differs:\n"
        + "\n".join(missing)
    )


def test_every_row_is_a_message_of_the_code(whole: None) -> None:
    said = list(dict.fromkeys(each for place in places() for each in place.heard()))
    stale = [
        row
        for row in rows()
        if not any(words in row for words in (*WRITTEN, *PYINFRAS, *IN_A_LAB)) and not tells(row, said)
    ]
    assert not stale, (
        "the code never says this; correct these rows of docs/troubleshooting.md, or remove them:\n" + "\n".join(stale)
    )


def test_every_row_that_a_message_shows_is_taken_as_it_stands(whole: None) -> None:
    said = {each for place in places() for each in place.heard()}
    shown = {row for each in said for row in re.findall(r"row to access_table: (\{[^{}]*\})", each)}
    assert len(shown) > 5
    table, users = houses.SETTINGS["access_table"], houses.single().users
    for row in shown:
        # The message leaves out an address that only the host's owner knows.
        read = ast.literal_eval(re.sub("ADDRESS [^']*", "192.168.1.5", row))
        assert len(parse_access([*table, read], users)) == len(table) + 1, row


def test_messages_that_hosts_write_have_rows_and_tests() -> None:
    code = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files()}
    installed = Path(pyinfra.__file__).parents[1]
    theirs = [file.read_text(encoding="utf-8") for file in installed.glob("pyinfra*/**/*.py")]
    for words, test in {**WRITTEN, **PYINFRAS, **IN_A_LAB}.items():
        said = theirs if words in PYINFRAS else code.values()
        assert any(words in text for text in said), f"the code does not say {words!r} any more"
        assert any(words in row for row in rows()), f"no row of docs/troubleshooting.md has {words!r}"
        assert words in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not look for {words!r}"
    for name, text in code.items():
        for said in re.findall(r"echo ([^;\n]{3,}?) >&2", text):
            written = [words for words in WRITTEN if words in said]
            assert written, f"{name}: a script writes {said!r}: add it to WRITTEN, with its test, and to the page"
