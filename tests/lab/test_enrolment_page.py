"""The enrolment page on a phone's screen and on paper. A QR decoder reads it, and axe-core checks its accessibility.

These tests need no lab, only a browser. Screenshots are kept in reports/enrolment.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from plan.devices.declared import Kind
from plan.devices.enrolment_page import page, profile
from tests.unit.enrolments import CONTROL, KEY, KINDS, TOKEN, UI, enrolment, make_ca

SHOTS = Path(__file__).parent.parent.parent / "reports" / "enrolment"
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=800)
CODES = {CONTROL, KEY, f"{UI}#token={TOKEN}"}
A4 = ViewportSize(width=794, height=1123)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    for program in ("chromium", "zbarimg", "pdftoppm"):
        assert shutil.which(program), f"{program} is not installed. Next: lab/prepare --browser"
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_ca(tmp_path_factory.mktemp("ca"))


def opened(browser: Browser, folder: Path, text: str, **options: Any) -> Page:
    """Write `text` to a file and open it in the browser, as a person does."""
    file = folder / "anna-phone.html"
    file.write_text(text, encoding="utf-8")
    shown = browser.new_page(**options)
    shown.goto(file.as_uri())
    return shown


def decoded(picture: Path) -> set[str]:
    """The texts of the QR codes that zbar finds in a picture."""
    command = ["zbarimg", "--quiet", "--raw", "--nodbus", "-Sdisable", "-Sqrcode.enable", str(picture)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    # 4 is "no code found".
    assert said.returncode in (0, 4), said.stderr
    return set(said.stdout.splitlines())


@pytest.mark.parametrize("scheme", ("light", "dark"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_phones_screen_shows_codes_that_can_be_read(
    browser: Browser, ca: str, tmp_path: Path, kind: Kind, scheme: Any
) -> None:
    shown = opened(browser, tmp_path, page(enrolment(kind, ca)), viewport=PHONE, color_scheme=scheme)
    shown.screenshot(path=SHOTS / f"{kind}-{scheme}.png", full_page=True)
    assert shown.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    read = []
    for number, code in enumerate(shown.locator("svg.code").all()):
        code.scroll_into_view_if_needed()
        picture = tmp_path / f"{number}.png"
        shown.screenshot(path=picture)
        read.append(decoded(picture))
        # Large enough to be scanned from the screen: 40 mm, with 96 pixels an inch as in CSS.
        box = code.bounding_box()
        assert box is not None and box["width"] >= 40 / 25.4 * 96
    assert len(read) == 3 and set().union(*read) == CODES
    shown.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_print_can_be_read_and_no_step_is_torn(browser: Browser, ca: str, tmp_path: Path, kind: Kind) -> None:
    # Printed from a dark screen, because the print must be white in that case too.
    shown = opened(browser, tmp_path, page(enrolment(kind, ca)), viewport=A4, color_scheme="dark")
    file = SHOTS / f"{kind}.pdf"
    shown.pdf(path=file, prefer_css_page_size=True)
    subprocess.run(["pdftoppm", "-r", "100", "-gray", "-png", str(file), str(tmp_path / "print")], check=True)
    sheets = sorted(tmp_path.glob("print-*.png"))
    assert set().union(*map(decoded, sheets)) == CODES
    shown.emulate_media(media="print")
    widths = shown.locator("svg.code").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert min(widths) >= 50 / 25.4 * 96
    texts = [sheet_text(file, number + 1) for number in range(len(sheets))]
    for step in shown.locator("ol.steps > li").all():
        parts = [packed(part.inner_text()) for part in (step.locator("h2"), step.locator("p, li").last)]
        assert any(all(part in text for part in parts) for text in texts), parts
    shown.close()


def sheet_text(file: Path, number: int) -> str:
    command = ["pdftotext", "-f", str(number), "-l", str(number), str(file), "-"]
    return packed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def packed(text: str) -> str:
    """The text without spaces and hyphens: pdftotext removes a hyphen at the end of a line."""
    return "".join(text.replace("-", "").split())


@pytest.mark.parametrize("scheme", ("light", "dark"))
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(browser: Browser, ca: str, tmp_path: Path, kind: Kind, scheme: Any) -> None:
    shown = opened(browser, tmp_path, page(enrolment(kind, ca)), viewport=PHONE, color_scheme=scheme)
    assert judged(shown) == {}
    shown.set_viewport_size(DESK)
    assert judged(shown) == {}
    shown.close()


def judged(shown: Page) -> dict[str, str]:
    """The rules of axe-core that the page breaks or may break: id of a rule -> its text."""
    said = Axe().run(shown, options={"resultTypes": ["violations", "incomplete"]}).response
    assert len(said["passes"]) > 10
    return {found["id"]: found["help"] for kind in ("violations", "incomplete") for found in said[kind]}


def test_axe_would_find_something(browser: Browser, ca: str, tmp_path: Path) -> None:
    text = page(enrolment("ios", ca))
    for good, bad in (('role="img" aria-label=', 'role="img" title2='), ("--soft: #4f5d57", "--soft: #aab4af")):
        assert good in text
        text = text.replace(good, bad)
    assert {"svg-img-alt", "color-contrast"} <= judged(opened(browser, tmp_path, text, viewport=PHONE)).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_asks_for_nothing_and_hands_out_the_ca(browser: Browser, ca: str, tmp_path: Path, kind: Kind) -> None:
    shown = browser.new_page(viewport=PHONE, java_script_enabled=False)
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    file = tmp_path / "page.html"
    file.write_text(page(enrolment(kind, ca)), encoding="utf-8")
    shown.goto(file.as_uri())
    with shown.expect_download() as saving:
        shown.locator("a[download]").click()
    saved = saving.value
    content = Path(saved.path()).read_bytes()
    if kind in ("ios", "macos"):
        assert (saved.suggested_filename, content) == ("private-ai-house.mobileconfig", profile("house", ca).content)
    else:
        assert saved.suggested_filename == "private-ai-house.crt"
        pem = content.decode() if kind == "linux" else ssl.DER_cert_to_PEM_cert(content)
        assert ssl.PEM_cert_to_DER_cert(pem) == ssl.PEM_cert_to_DER_cert(ca)
    # The browser loads the file itself, and the download inside it.
    assert asked[0] == file.as_uri()
    assert all(url.startswith("data:") for url in asked[1:]), asked
    shown.close()
