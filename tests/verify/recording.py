"""A pytest plugin that records every check, also those that were skipped or failed early, and writes the report."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plan.house.house import House
from tests.verify.inventory import Subject
from tests.verify.ledger import Entry, Ledger, Status, check_id, described
from tests.verify.report import About, Run, as_html, as_json
from tests.verify.summary import as_text

#: A function that returns what the hosts say about themselves. The fixture `probing` sets it. This plugin calls it
#: once, before the connections are closed.
ABOUT = pytest.StashKey[Callable[[], About]]()
BROKEN = "if the host is well, this is an error of the verification itself: run this check again with --tb=long -k"


class Recording:
    """A pytest plugin. `made`: the Run before the first check. `folder`: the folder for the report."""

    def __init__(self, config: pytest.Config, ledger: Ledger, made: Run, folder: Path) -> None:
        self.config = config
        self.ledger = ledger
        self.made = made
        self.folder = folder
        self.begun = time.monotonic()
        self.about: About | None = None
        self.chosen = 0
        self.left_out = 0
        self.done: set[str] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.left_out += len(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.chosen = len(session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A file of checks that pytest cannot read counts as a failed check."""
        report = yield
        if report.failed:
            self.ledger.entries.append(_unmade(collector, "fail", report.longreprtext))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Records skips, errors, and tests that ended without a check. Warnings go into the XML file too."""
        report = yield
        self.done.add(item.nodeid)
        own = [entry for entry in self.ledger.entries if entry.id == check_id(item.nodeid)]
        if call.excinfo and report.skipped:
            self.ledger.entries.append(_unmade(item, "skip", str(call.excinfo.value)))
        elif call.excinfo and not (report.when == "call" and any(entry.status == "fail" for entry in own)):
            self.ledger.entries.append(_unmade(item, "fail", _said(call.excinfo)))
        elif report.when == "call" and report.passed and not own:
            report.outcome, report.longrepr = "failed", "it ended without a check"
            self.ledger.entries.append(_unmade(item, "fail", report.longrepr))
        if report.when == "call":
            item.user_properties += [("warning", entry.observed) for entry in own if entry.status == "warn"]
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> Generator[None]:
        if nextitem is None:
            self._ask()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """For a run that was stopped: `pytest_runtest_teardown` has not seen a last test."""
        self._ask()

    def _ask(self) -> None:
        """Asks the hosts about themselves. An error here must not hide the results of the checks."""
        if self.about is None:
            try:
                self.about = self.config.stash.get(ABOUT, About)()
            except Exception as error:
                self.about = About(error=f"{type(error).__name__}: {error}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        entries = self.ledger.entries
        if not entries or self.config.option.collectonly:
            return
        run = dataclasses.replace(
            self.made,
            seconds=time.monotonic() - self.begun,
            not_run=self.left_out + self.chosen - len(self.done),
        )
        about, writer = self.about or About(), self.config.get_terminal_writer()
        terminalreporter.section("who reaches what")
        terminalreporter.write_line(as_text(run, entries, about, writer.fullwidth, writer.hasmarkup))
        try:
            write(self.folder / "verification.json", json.dumps(as_json(run, entries, about), indent=2) + "\n")
            write(self.folder / "verification.html", as_html(run, entries, about))
        except OSError as error:
            terminalreporter.write_line(f"the report could not be written: {error}; name another place with --reports")
        else:
            terminalreporter.write_line(f"report: {self.folder / 'verification.html'}, and .json beside it")


def began(found: Subject) -> Run:
    """The Run before the first check."""
    return Run(
        house=found.house.name,
        inventory=found.file,
        hosts={member.name: sorted(member.roles) for member in found.house.members},
        probed=sorted(found.scope),
        outside=found.outside_name,
        services=services(found.house),
        started=datetime.now(UTC),
        seconds=0,
    )


def services(house: House) -> list[str]:
    """HOST/ID for every row of the access table, at every host to which the row leads."""
    return [
        f"{member.name}/{row.id}"
        for member in house.members
        for row in house.access
        if row.target == "all" or row.target in member.roles
    ]


def write(path: Path, text: str) -> None:
    """Writes a file in one step, so that a reader finds either the old report or the new one. It has no secrets in
    it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise


def _unmade(node: pytest.Item | pytest.Collector, status: Status, said: str) -> Entry:
    """The entry for a check that was not made. `said`: the reason, and after "next:" the next step, if there is one."""
    name = check_id(node.nodeid)
    parameters = re.search(r"\[(.+)\]$", name)
    what, why = described(node) if isinstance(node, pytest.Item) else ("This file of checks can be read.", "")
    observed, _, remedy = said.removeprefix("observed: ").partition("\nnext:")
    target = parameters[1] if parameters else ""
    if status == "skip":
        return Entry(name, "", target, what, "", "not made", "skip", said, "")
    return Entry(name, "", target, what, "the check can be made", observed, status, why, remedy.strip() or BROKEN)


def _said(found: pytest.ExceptionInfo[BaseException]) -> str:
    """An exception in words: the message of a probe, else the exception's type and the line that raised it."""
    words = str(found.value)
    if isinstance(found.value, pytest.fail.Exception) or "\nnext:" in words:
        return words
    at = found.traceback[-1]
    return f"{found.exconly()} ({Path(at.path).name}:{at.lineno + 1})"
