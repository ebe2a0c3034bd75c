"""The enrolment page: what is on it, what must never be on it, and that other programs can read its files."""

from __future__ import annotations

import base64
import html
import plistlib
import re
import ssl
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
import segno

from plan.devices.declared import Kind
from plan.devices.enrolment_page import fingerprint, page, profile
from tests.unit.enrolments import CONTROL, KEY, KINDS, TOKEN, UI, enrolment, make_ca

VOID = {"meta", "br", "wbr"}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_ca(tmp_path_factory.mktemp("ca"))


class Reader(HTMLParser):
    """Text, tags and attributes of a page. Checks that all tags are closed in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]

    def download(self, ending: str) -> tuple[str, bytes]:
        """Media type and content of the only file whose name has that ending."""
        [link] = [a["href"] for _, a in self.tags if a.get("download", "").endswith(ending)]
        found = re.fullmatch(r"data:([\w/-]+);base64,(.*)", link)
        assert found is not None
        return found[1], base64.b64decode(found[2], validate=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_all_that_its_device_has_to_be_told(kind: Kind, ca: str) -> None:
    reader = Reader(page(enrolment(kind, ca)))
    for told in (
        "anna-phone",
        "anna",
        CONTROL,
        "headscale.house.internal",
        "10.77.0.11",
        "fd4c:4142:77::11",
        KEY,
        f"{UI}#token={TOKEN}",
        fingerprint(ca),
        "works once",
        "dies on Tuesday 3 November 2026, 00:05 UTC+05:30",
        "in person",
        "delete this page",
        "Approve this browser",
    ):
        assert told in reader.text, told
    assert reader.text.count("headscale.house.internal") > 1
    assert [tag for tag, _ in reader.tags].count("h2") == 6
    assert f"{CONTROL}/health" in reader.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_runs_and_loads_nothing(kind: Kind, ca: str) -> None:
    text = page(enrolment(kind, ca))
    reader = Reader(text)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "srcset", "style", "xmlns"}]
    assert not re.search(r"url\(|@import|javascript:", text)
    assert "default-src 'none'" in text
    # Links that a person follows lead to the house, or to a file within the page.
    homes = (CONTROL, UI, "data:application/x-")
    assert all(link.startswith(homes) for link in reader.links)
    addresses = set(re.findall(r"https?://[^\s<\"'#]+", html.unescape(text)))
    assert all(address.startswith((CONTROL, UI)) for address in addresses), addresses


@pytest.mark.parametrize("kind", KINDS)
def test_each_code_says_what_stands_beside_it(kind: Kind, ca: str) -> None:
    text = page(enrolment(kind, ca))
    scans = re.findall(r'<div class="scan">\s*(<svg.*?</svg>).*?<p class="copy"><code>(.*?)</code>', text, re.DOTALL)
    assert [html.unescape(beside) for _, beside in scans] == [CONTROL, KEY, f"{UI}#token={TOKEN}"]
    alts = []
    for svg, beside in scans:
        expected = segno.make_qr(html.unescape(beside), error="m")
        assert dark_modules(svg, int(expected.symbol_size(border=4)[0])) == {
            (x + 4, y + 4) for y, row in enumerate(expected.matrix) for x, module in enumerate(row) if module
        }
        [(_, attributes)] = [found for found in Reader(svg).tags if found[0] == "svg"]
        assert attributes["role"] == "img"
        alts.append(attributes["aria-label"])
    assert len(set(alts)) == 3 and all(alts)


def dark_modules(svg: str, size: int) -> set[tuple[int, int]]:
    """The dark modules as (column, row). The path consists of horizontal lines that are one module high."""
    assert f'viewBox="0 0 {size} {size}"' in svg
    assert f'fill="#fff" d="M0 0h{size}v{size}h-{size}z"' in svg
    path = re.search(r'stroke="#000" d="([^"]*)"', svg)
    assert path is not None
    dark, x, y = set(), 0.0, 0.0
    for command, first, second in re.findall(r"([Mmh])(-?[\d.]+) ?(-?[\d.]+)?", path[1]):
        if command == "h":
            dark |= {(column, int(y)) for column in range(int(x), int(x + float(first)))}
            x += float(first)
        else:
            x, y = (float(first), float(second)) if command == "M" else (x + float(first), y + float(second))
    return dark


def test_the_fingerprint_is_that_of_openssl(ca: str) -> None:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(command, input=ca, capture_output=True, text=True, check=True).stdout
    assert said.strip().split("=")[1] == fingerprint(ca)
    with pytest.raises(ValueError, match="PEM"):
        fingerprint("no certificate")


@pytest.mark.parametrize("kind", KINDS)
def test_the_ca_comes_in_the_form_that_the_device_takes(kind: Kind, ca: str) -> None:
    reader, der = Reader(page(enrolment(kind, ca))), ssl.PEM_cert_to_DER_cert(ca)
    names = [a["download"] for _, a in reader.tags if "download" in a]
    if kind in ("ios", "macos"):
        assert names == ["private-ai-house.mobileconfig"]
        media, content = reader.download(".mobileconfig")
        assert media == "application/x-apple-aspen-config"
        outer = plistlib.loads(content)
        [root] = outer["PayloadContent"]
        assert (outer["PayloadType"], root["PayloadType"]) == ("Configuration", "com.apple.security.root")
        assert root["PayloadContent"] == der
        assert outer["PayloadUUID"] != root["PayloadUUID"]
        assert outer["PayloadIdentifier"] != root["PayloadIdentifier"]
        assert "PayloadRemovalDisallowed" not in outer
    else:
        assert names == ["private-ai-house.crt"]
        media, content = reader.download(".crt")
        assert media == "application/x-x509-ca-cert"
        assert content == (ssl.DER_cert_to_PEM_cert(der).encode() if kind == "linux" else der)


def test_a_profile_is_the_same_for_the_same_ca_and_another_for_another(ca: str) -> None:
    other = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(ca)[:-1] + b"\0")
    assert profile("house", ca) == profile("house", f"\n{ca}\n")
    first, second = (plistlib.loads(profile("house", pem).content) for pem in (ca, other))
    # A new CA gets another id, so the device does not take it for the old one.
    assert first["PayloadUUID"] != second["PayloadUUID"]
    assert first["PayloadIdentifier"] == second["PayloadIdentifier"]


def test_secrets_are_on_the_page_and_in_no_description(ca: str) -> None:
    described = repr(enrolment("ios", ca))
    assert KEY not in described and TOKEN not in described
    assert "anna-phone" in described


def test_what_comes_from_outside_stays_text(ca: str) -> None:
    text = page(enrolment("linux", ca, owner="<b>&", device='"><script>', token="a b&c#d"))
    assert "script" not in {tag for tag, _ in Reader(text).tags}
    assert "<b>&" in Reader(text).text
    assert f"{UI}#token=a%20b%26c%23d" in Reader(text).text


def test_a_moment_without_a_zone_is_refused(ca: str) -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        page(enrolment("ios", ca, key_ends=datetime(2026, 11, 3, 0, 5)))
    assert "3 November 2026, 00:05 UTC<" in page(enrolment("ios", ca, key_ends=datetime(2026, 11, 3, 0, 5, tzinfo=UTC)))


@pytest.mark.parametrize("kind", ("linux", "macos"))
def test_commands_are_ones_that_a_shell_reads(kind: Kind, ca: str) -> None:
    blocks = re.findall(r"<pre class=\"copy\"><code>(.*?)</code>", page(enrolment(kind, ca)), re.DOTALL)
    assert blocks
    for block in blocks:
        assert subprocess.run(["sh", "-n"], input=html.unescape(block), text=True, check=False).returncode == 0, block
    joining = [html.unescape(block) for block in blocks if "--login-server" in block]
    assert [f"--login-server={CONTROL} --auth-key={KEY}" in block for block in joining] == [True]


@pytest.mark.parametrize("server", ["https://192.168.1.10:443", "https://[fd4c:4142:77::11]:443", "https://house:443"])
def test_no_page_names_the_control_server_by_an_address(server: str, ca: str) -> None:
    """If the control server is an address, Tailscale does not check its certificate."""
    with pytest.raises(ValueError, match="has to be named"):
        page(enrolment("linux", ca, control_url=server))


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_that_the_control_server_is_a_name(kind: Kind, ca: str) -> None:
    text = page(enrolment(kind, ca))
    assert "Never put an address in its place" in text
    for address in ("10.77.0.11", "fd4c:4142:77::11"):
        assert f"//{address}" not in text and f"//[{address}]" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_which_tailscale_cannot_reach_the_hosts(kind: Kind, ca: str) -> None:
    assert "1.106" in page(enrolment(kind, ca, too_new="1.106"))
    assert "1.106" not in page(enrolment(kind, ca, too_new=""))
