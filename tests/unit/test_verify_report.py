"""The report of the verification, made from invented checks and from a run of pytest."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.unit.houses import split
from tests.verify.ledger import Entry, Status, Way
from tests.verify.recording import services, write
from tests.verify.report import (
    MODULES,
    About,
    Cell,
    DateAbout,
    ModelAbout,
    Run,
    apart,
    as_html,
    as_json,
    matrix,
    verdict,
)
from tests.verify.summary import as_text

ROOT = Path(__file__).parents[2]
RUN = Run(
    house="villa",
    inventory="inventory.py",
    hosts={"home": ["coordinator", "gateway", "model_hosts"], "laptop": ["clients"]},
    probed=["home", "laptop"],
    outside="stranger",
    services=["home/ssh", "home/headscale", "home/ollama", "laptop/ssh"],
    started=datetime(2026, 11, 22, 20, 4, 5, tzinfo=UTC),
    seconds=61.26,
)
ABOUT = About(
    versions={"home": {"ollama": "0.32.15"}},
    models=[ModelAbout("home", "smollm2:135m", 8192, "the smallest")],
    dates=[DateAbout("certificate of headscale", "home", "2026-12-01", 8), DateAbout("CA", "home", "2036-01-01", 3326)],
    connections={"home": 1, "stranger": 1},
    commands={"home": 12},
)


def made(name: str, status: Status = "pass", source: str = "stranger", **more: Any) -> Entry:
    entry = Entry(name, source, "home", f"What {name} checks.", "closed", "seen", status, "Because.", "repair it")
    return replace(entry, **more)


ENTRIES = [
    made("message.answered[laptop]", source="laptop"),
    made("unheard.of[home]"),
    made("outside.tcp_ports[home-IPv4]", ways=(Way("home/headscale", True, True), Way("home/ssh", False, False))),
    made("outside.tcp_ports[home-IPv6]", "fail", ways=(Way("home/ssh", True, False),), refused=65533),
    made("host.updates[home]", "warn", source="home"),
    made("container.closed[internet-IPv6]", "skip", source="", why="no IPv6 here"),
]


class Page(HTMLParser):
    """The open tags, ids and links of a page, and the text below each heading of the second level."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def test_a_cell_is_good_when_the_table_agrees_with_all_its_ways() -> None:
    tried = {
        ("reached", "reached"): [Way("home/ssh", True, True)],
        ("refused", "refused"): [Way("home/ssh", False, False), Way("home/ssh", False, False)],
        ("reached, not allowed", "bad"): [Way("home/ssh", True, False)],
        ("refused, though allowed (1 of 3 tries)", "bad"): [
            Way("home/ssh", True, True),
            Way("home/ssh", False, True),
            Way("home/ssh", True, True),
        ],
        ("reached, not allowed; refused, though allowed", "bad"): [
            Way("home/ssh", True, False),
            Way("home/ssh", False, True),
        ],
    }
    for (words, level), ways in tried.items():
        (line,) = matrix(["home/ssh", "home/stun"], [made("a.b", ways=tuple(ways))])
        assert line.cells == (Cell(words, level), Cell("not tried", "none"))


def test_what_is_no_row_of_the_table_is_counted_and_named_when_it_is_bad() -> None:
    ways = (Way("198.51.100.10 80", False, False), Way("198.51.100.10 443", True, False), Way("DNS", True, True))
    (line,) = matrix(["home/ssh"], [made("a.b", ways=ways, refused=1000), made("a.c", refused=5)])
    assert line.rest == Cell("198.51.100.10 443: reached, not allowed; 1 reached; 1,006 refused", "bad")
    (line,) = matrix(["home/ssh"], [made("a.b", ways=ways[:1], refused=3)])
    assert line.rest == Cell("4 refused", "refused")


def test_the_view_from_outside_stands_first() -> None:
    entries = [made(f"{name}.a", source=name, refused=1) for name in ("unheard", "vpn", "container", "outside")]
    assert [line.source for line in matrix([], entries)] == ["outside", "container", "vpn", "unheard"]


def test_vantage_points_without_a_cell_stand_together_when_they_saw_the_same() -> None:
    entries = [made("a.a", source="ollama", refused=6), made("a.b", source="openclaw", refused=6), made("a.c")]
    entries += [
        made("a.d", source="root", refused=1),
        made("a.e", source="laptop", ways=(Way("home/ssh", True, True),)),
    ]
    lines, aside = apart(matrix(["home/ssh"], entries))
    assert [line.source for line in lines] == ["laptop"]
    assert aside == [(["ollama", "openclaw"], Cell("6 refused", "refused")), (["root"], Cell("1 refused", "refused"))]


def test_services_are_the_rows_of_the_table_at_each_host() -> None:
    found = services(split())
    assert [each for each in found if each.startswith("brain/")] == ["brain/ssh", "brain/wireguard", "brain/ollama"]
    assert {"hub/headscale", "hub/stun", "gate/openclaw"} < set(found)
    assert not {"laptop/ollama", "gate/headscale"} & set(found)


@pytest.mark.parametrize(
    ("statuses", "run", "expected"),
    [
        (["pass", "pass"], RUN, ("pass", "All 2 checks held")),
        (["pass", "warn", "skip"], RUN, ("pass", "No check failed")),
        (["pass", "fail"], replace(RUN, not_run=2), ("fail", "1 of 2 checks failed")),
        (["skip"], RUN, ("skip", "Nothing was checked")),
        (["pass"], replace(RUN, not_run=2), ("warn", "No check failed in a part of the house")),
        (["pass"], replace(RUN, probed=["home"]), ("warn", "No check failed in a part of the house")),
    ],
)
def test_the_verdict_praises_no_more_than_was_seen(
    statuses: list[Status], run: Run, expected: tuple[Status, str]
) -> None:
    assert verdict(run, [made("a.b", status) for status in statuses]) == expected


def test_the_json_is_what_the_page_describes() -> None:
    said = as_json(RUN, ENTRIES, ABOUT)
    assert {
        name: said[name] for name in ("house", "started", "seconds", "passed", "failed", "warnings", "skipped")
    } == {
        "house": "villa",
        "started": "2026-11-22T20:04:05Z",
        "seconds": 61.3,
        "passed": 3,
        "failed": 1,
        "warnings": 1,
        "skipped": 1,
    }
    assert said["checks"][3] == {
        "id": "outside.tcp_ports[home-IPv6]",
        "from": "stranger",
        "to": "home",
        "what": "What outside.tcp_ports[home-IPv6] checks.",
        "expected": "closed",
        "observed": "seen",
        "status": "fail",
        "why": "Because.",
        "remedy": "repair it",
        "ways": [{"service": "home/ssh", "reached": True, "allowed": False}],
        "refused": 65533,
    }
    assert said["connections"] == {"home": 1, "stranger": 1} and said["commands"] == {"home": 12}
    assert said["about"]["models"][0]["why"] == "the smallest" and said["about"]["dates"][0]["days"] == 8
    page = (ROOT / "docs/verification.md").read_text()
    described = page.split("## The JSON file")[1].split("\n## ")[0]
    names = {*said, *said["checks"][0], *said["checks"][3]["ways"][0], *said["about"]}
    assert {name for name in names if f"`{name}`" not in described} == set()


def test_the_page_is_sound_and_needs_nothing_else() -> None:
    html = as_html(RUN, ENTRIES, ABOUT)
    page = Page(html)
    assert page.open == []
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link for link in links if link != "data:,"} <= {f"#{name}" for name in ids}
    assert "://" not in html and "url(" not in html and "@import" not in html
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_page_has_failures_first_and_every_check_once() -> None:
    html = as_html(RUN, ENTRIES, ABOUT)
    assert [html.count(f"<code>{entry.id}</code>") for entry in ENTRIES] == [1] * len(ENTRIES)
    order = [3, 4, 5, 2, 0, 1]  # failed, warning, skipped, then by module; a module without a place is last
    found = [html.index(f"<code>{ENTRIES[number].id}</code>") for number in order]
    assert found == sorted(found)
    text = re.sub(r"<[^>]+>|\s+", " ", html)
    for words in ("reached, not allowed (1 of 2 tries)", "65,533 refused", "no IPv6 here", "the smallest", "8 days"):
        assert words in " ".join(text.split()), words


def test_checks_that_were_not_made_for_one_reason_stand_together() -> None:
    down = [made(f"host.clock[{name}]", "fail", source="", observed="home is down") for name in ("a", "b")]
    entries = [*down, made("host.ssh[a]", "fail"), made("host.ssh[b]", "fail"), ENTRIES[5]]
    entries += [replace(ENTRIES[5], id="container.closed[lan-IPv6]")]
    text, html = as_text(RUN, entries, ABOUT, 120), as_html(RUN, entries, ABOUT)
    assert "SKIPPED container.closed[internet-IPv6], container.closed[lan-IPv6]\n" in text
    assert "FAILED host.clock[a], host.clock[b]\n" in text and text.count("home is down") == 1
    # Each failed check is shown with what it saw, also if this is the same.
    assert "FAILED host.ssh[a] stranger" in text and "FAILED host.ssh[b] stranger" in text
    assert html.count("home is down") == 1 and html.count("2 checks, for one reason") == 2
    assert verdict(RUN, entries)[1] == "4 of 6 checks failed"


def test_what_a_host_says_stays_text() -> None:
    said = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202eback \ud800 'quoted'"
    entries = [made("a.b[x]", "fail", observed=said), made("a.b[y]", observed=said)]
    html = as_html(RUN, entries, About(versions={"home": {"<b>": said}}, error=said))
    assert "<script" not in html and "<b>" not in html and "&lt;script&gt;" in html
    text = as_text(RUN, entries, About(error=said), 200)
    for shown in (html, text):
        assert not {"\x1b", "\u202e", "\ud800"} & set(shown)
        assert "\\x1b[31mred" in shown


def test_the_text_fits_the_terminal_and_says_what_to_do() -> None:
    entries = [*ENTRIES, made("a.b[z]", "fail", observed="word " * 60, remedy="do " * 60)]
    for width in (60, 80, 200):
        text = as_text(RUN, entries, ABOUT, width)
        assert max(len(line) for line in text.splitlines()) <= width
        assert "\x1b" not in text
    assert "\x1b[" in as_text(RUN, entries, ABOUT, 80, colour=True)
    for words in (
        "ssh (REACHED, NOT ALLOWED (1 OF 2 TRIES))",
        "SKIPPED container.closed[internet-IPv6]\n  why:      no IPv6 here",
        "WARNED host.updates[home] home -> home",
        "FAILED outside.tcp_ports[home-IPv6] stranger -> home\n",
        "  expected: closed\n  observed: seen\n  next:     repair it",
        "2 of 7 checks failed (2 failed, 1 warned, 1 skipped, 3 held; 61 s)",
    ):
        assert words in text, words


def test_a_report_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "below" / "report.html"
    write(path, "first\n")
    write(path, "second\n")
    assert path.read_text() == "second\n" and path.stat().st_mode & 0o777 == 0o644
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        write(path, "third\n")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_the_page_of_the_docs_has_every_module() -> None:
    table = (ROOT / "docs/verification.md").read_text().split("## What is checked")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(MODULES)
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests/verify").glob("test_*.py")}
    assert files == set(MODULES)


CONFTEST = """
import pytest
from pathlib import Path
from tests.unit.test_verify_report import RUN
from tests.verify.ledger import Ledger
from tests.verify.recording import ABOUT, Recording
from tests.verify.report import About

@pytest.fixture
def check(request):
    return LEDGER.check(request)

LEDGER = Ledger()

@pytest.fixture(scope="session")
def hosts(pytestconfig):
    pytestconfig.stash[ABOUT] = lambda: about(open_now)
    open_now = [1]
    yield
    open_now.clear()

def about(open_now):
    if "broken" in __file__:
        raise RuntimeError("no answer")
    return About(connections={"home": open_now[0]})

def pytest_configure(config):
    config.pluginmanager.register(Recording(config, LEDGER, RUN, Path("out")))
"""
CHECKS = '''
import pytest
SAY = {"source": "here", "target": "home", "expected": "one", "observed": "two", "remedy": "mend it"}

def test_holds(check, hosts):
    """It holds.

    Since it does.
    """
    check(True, **SAY)

def test_fails(check):
    check(False, **SAY)

def test_warns(check):
    check(False, warn=True, **SAY)

@pytest.mark.parametrize("where", ["home"])
def test_skips(where):
    pytest.skip("nothing to try")

@pytest.mark.skip(reason="left out")
def test_is_marked():
    pass

@pytest.fixture
def broken():
    raise RuntimeError("out of reach\\nnext: switch it on")

def test_errs(broken):
    pass

def test_has_a_bug(check):
    check(True, **SAY)
    {}["name"]

def test_does_nothing():
    pass
'''


def run_checks(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run pytest on CHECKS with the plugin. Returns the result and the report."""
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_made.py").write_text(CHECKS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=no", "--junitxml=out/x.xml", *arguments]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "",
        "COLUMNS": "120",
    }
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    return done, json.loads((folder / "out/verification.json").read_text())


def test_nothing_that_happens_in_a_run_is_left_out(tmp_path: Path) -> None:
    done, report = run_checks(tmp_path / "whole")
    assert [(each["id"], each["status"], each["observed"]) for each in report["checks"]] == [
        ("made.holds", "pass", "two"),
        ("made.fails", "fail", "two"),
        ("made.warns", "warn", "two"),
        ("made.skips[home]", "skip", "not made"),
        ("made.is_marked", "skip", "not made"),
        ("made.errs", "fail", "out of reach"),
        ("made.has_a_bug", "pass", "two"),
        ("made.has_a_bug", "fail", "KeyError: 'name' (test_made.py:35)"),
        ("made.does_nothing", "fail", "it ended without a check"),
    ]
    found = {each["id"]: each for each in report["checks"]}
    assert (found["made.holds"]["what"], found["made.holds"]["why"]) == ("It holds.", "Since it does.")
    assert (found["made.skips[home]"]["why"], found["made.is_marked"]["why"]) == ("nothing to try", "left out")
    assert found["made.errs"]["remedy"] == "switch it on" and "-k" in found["made.has_a_bug"]["remedy"]
    # The hosts are asked before the connections end.
    assert report["connections"] == {"home": 1}
    assert "4 of 9 checks failed" in done.stdout and "out/verification.html" in done.stdout
    assert "4 of 9 checks failed" in (tmp_path / "whole/out/verification.html").read_text()
    xml = ElementTree.parse(tmp_path / "whole/out/x.xml")
    assert [each.attrib for each in xml.iter("property")] == [{"name": "warning", "value": "two"}]


def test_a_part_of_a_run_says_so_and_a_failing_question_hides_nothing(tmp_path: Path) -> None:
    done, report = run_checks(tmp_path / "broken", "-x", "-k", "holds or fails or warns")
    assert (report["passed"], report["failed"], report["not_run"]) == (1, 1, 6)
    assert report["about"]["error"] == "RuntimeError: no answer"
    assert "RuntimeError: no answer" in done.stdout and "6 not run" in done.stdout
