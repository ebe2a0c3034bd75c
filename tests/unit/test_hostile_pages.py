"""Pages show all values as text. No value can make a tag, an attribute or a line of its own."""

from __future__ import annotations

import contextlib
import html
import io
import json
import string
import tempfile
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facts.ca import CaCertificate
from facts.headscale import Headscale, HeadscaleState
from operations.devices import enrolment as enrolment_operation
from plan.devices.enrolment_page import page
from plan.engine.terminal_text import plain
from tests.unit import houses
from tests.unit.enrolments import KEY, KINDS, TOKEN, enrolment, make_ca
from tests.unit.fakes import Fake, bare, context
from tests.unit.hostile import fewer, texts
from tests.unit.test_hostile_answers import changed_json
from tests.unit.test_verify_report import ABOUT, ENTRIES, RUN
from tests.verify.ledger import Entry, Way
from tests.verify.report import About, DateAbout, ModelAbout, Run, as_html, as_json
from tests.verify.summary import as_text

short = texts.map(lambda text: text[:300])


class Tags(HTMLParser):
    """The tags of a page in their order, with the names of their attributes; the page's text; the targets of its
    links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.other: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("/", tag))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


def report(word: str) -> tuple[Run, list[Entry], About]:
    """A report in which every value that does not come from the project itself is this word."""
    run = replace(RUN, house=word, inventory=word, outside=word)
    ways = (Way("home/ssh", True, False), Way(word, True, False))
    entries = [
        replace(each, source=each.source and word, target=word, expected=word, observed=word, remedy=word, ways=ways)
        for each in ENTRIES
    ]
    about = About(
        {"home": {"ollama": word}},
        [ModelAbout("home", word, 8192, word)],
        [DateAbout(word, "home", word, 8)],
        ABOUT.connections,
        ABOUT.commands,
        word,
    )
    return run, entries, about


@cache
def usual_report() -> Tags:
    return Tags(as_html(*report("word")))


@fewer(10)
@given(short.filter(str.strip))
@example("<script>alert(1)</script>")
@example('"><img src=x onerror=alert(1)>')
@example("{{ 7 * 7 }}")
def test_the_report(word: str) -> None:
    found, usual = Tags(as_html(*report(word))), usual_report()
    assert found.tags == usual.tags and found.links == usual.links and found.other == usual.other
    assert plain(word).strip() in "".join(found.words) or not plain(word).isprintable()
    assert json.loads(json.dumps(as_json(*report(word))))["house"] == word
    shown = as_text(*report(word), width=120)
    assert all(letter in "\n" or letter == plain(letter) for letter in shown)


@fewer(4)
@given(st.sampled_from(KINDS), short, short.map(lambda text: text[:60]).filter(str.strip))
@example("linux", "<b>", "'; reboot; '")
@example("ios", "a&b", '"onload=x')
@example("android", "x", "a%41&b#c")
def test_the_page_that_lets_a_device_in(authority: str, kind: Any, word: str, token: str) -> None:
    """Names, key and addresses are checked before they come here. In this test they are any text, and must stay
    text."""
    try:
        text = page(enrolment(kind, authority, device=word, owner=word, token=token.encode(errors="replace").decode()))
    except UnicodeEncodeError:
        return
    usual = Tags(page(enrolment(kind, authority)))
    found = Tags(text)
    assert [tag for tag in found.tags if tag[0] not in ("path", "/")] == [
        tag for tag in usual.tags if tag[0] not in ("path", "/")
    ]
    assert found.other == usual.other
    assert html.unescape(html.escape(word)) in "".join(found.words) or "\r" in word or "\0" in word
    (link,) = (each for each in found.links if "#token=" in each)
    assert unquote(link.partition("#token=")[2]) == token.encode(errors="replace").decode()
    assert all(each.startswith(("https://", "data:")) for each in found.links)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_ca(Path(tmp_path_factory.mktemp("authority")))


MADE = json.dumps({"id": 9, "key": KEY, "expiration": {"seconds": 1795389309}})


@fewer(4)
@given(changed_json(MADE) | texts.map(lambda text: json.dumps({**json.loads(MADE), "key": text})))
@example(MADE)
@example('{"id": 9, "key": "x; reboot"}')
@example("[]")
def test_a_key_in_another_form_makes_no_page(authority: str, made: str) -> None:
    """The key is on the page, in a command that people paste."""
    house = houses.single(headscale_devices=[{"name": "anna-phone", "owner": "people", "kind": "linux"}])
    facts = bare("100.64.0.1")
    facts[Headscale], facts[CaCertificate] = HeadscaleState(True, {"people": 1}, (), (), {}), authority
    here = Fake("home", facts, {"preauthkeys create": made, "cat /token": TOKEN})
    with tempfile.TemporaryDirectory() as folder, patch.object(enrolment_operation, "PAGES", Path(folder, "pages")):
        with context(here, {"home": here}), contextlib.redirect_stderr(io.StringIO()):
            good = enrolment_operation._enrol(None, here, house, house.devices[0], 1, here, "/token", "")  # type: ignore[arg-type]
        pages = list(Path(folder).rglob("*"))
        assert [each.name for each in pages] == (["pages", "anna-phone.html"] if good else [])
        key = str(json.loads(made)["key"]) if good else ""
        assert not good or (key and set(key) <= set(KEY + string.ascii_letters + string.digits + "_-"))
        assert not good or f"--auth-key={key} " in pages[1].read_text()
