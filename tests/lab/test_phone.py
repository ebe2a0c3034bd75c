"""A person's new device joins with nothing but its page: from an ordinary Tailscale on a bare host to an answer in the
Control UI.

The device knows only what is on the page that device_add.py wrote. QR codes are scanned from a screen of a phone's
size, the CA is saved with its button, and commands are copied from the page. Times are written to reports/phone.json.
Each test continues where the last one ended.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from lab.access import run_on
from plan.devices.enrolment_page import fingerprint
from tests.lab.browser import TRUST, browser_in
from tests.lab.conftest import REPO, TestLab
from tests.lab.inventories import GROUPS, write_inventory
from tests.lab.test_enrolment_page import PHONE, decoded
from tests.lab.test_ui import COMPOSER, PATIENCE, approve, ask, write
from tests.unit.enrolments import make_ca

DEVICE = "anna-phone"
PAGE = REPO / "enrolment" / f"{DEVICE}.html"
CA_FILE = "private-ai-house.crt"


@dataclass(frozen=True)
class Paper:
    """What a person gets from the page."""

    server: str
    key: str
    ui: str
    ca: bytes
    fingerprint: str
    #: Heading -> label -> command, in the order of the page.
    steps: dict[str, dict[str, str]]


@dataclass
class Way:
    """The steps that were done, with the seconds that the machines needed for them."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, who: str, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append({"who": who, "step": what, "seconds": round(time.monotonic() - began, 1)})
        print(f"{self.steps[-1]['seconds']:7.1f} s  {who}: {what}")


@dataclass(frozen=True)
class House:
    """A house that gets one more device."""

    lab: TestLab
    inventory: str

    def playbook(self, name: str, *data: str) -> str:
        """Run a playbook. Returns its messages."""
        program = str(Path(sys.executable).parent / "pyinfra")
        words = [word for each in data for word in ("--data", each)]
        done = self.lab.run(program, "-y", self.inventory, f"playbooks/{name}.py", *words)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    def on_phone(self, command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run_on("phone", command, input=stdin, name=self.lab.name, timeout=120)


@pytest.fixture(scope="module")
def house(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A deployed house with Anna's phone in its settings, and the phone on the LAN. Afterwards everything is
    restored."""
    done = single.lab("up", "--phone")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    settings = {
        "headscale_users": ["people", "anna"],
        "headscale_devices": [{"name": DEVICE, "owner": "anna", "kind": "linux"}],
    }
    file = write_inventory(tmp_path_factory.mktemp("people"), GROUPS["single"], settings)
    done = single.pyinfra(inventory=file)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    found = House(single, file)
    # Every person's Linux computer has curl. The lab's bare root does not have it.
    ready = found.on_phone("apt-get -qq update && apt-get -qq install --yes curl >/dev/null")
    assert ready.returncode == 0, ready.stderr
    yield found
    found.playbook("device_remove", f"device={DEVICE}")
    single.deploy()


def read(folder: Path) -> Paper:
    """Read the page as a person does: scan the codes from the screen, save the file, and read the rest."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        shown = browser.new_page(viewport=PHONE)
        shown.goto(PAGE.as_uri())
        codes: set[str] = set()
        for number, code in enumerate(shown.locator("svg.code").all()):
            code.scroll_into_view_if_needed()
            shown.screenshot(path=folder / f"{number}.png")
            codes |= decoded(folder / f"{number}.png")
        with shown.expect_download() as saving:
            shown.locator("a[download]").click()
        assert saving.value.suggested_filename == CA_FILE
        ca = Path(saving.value.path()).read_bytes()
        steps = {}
        for step in shown.locator("ol.steps > li").all():
            blocks = step.locator("pre.copy").all()
            labels = [block.locator("xpath=preceding-sibling::p[1]").inner_text() for block in blocks]
            steps[step.locator("h2").inner_text()] = dict(
                zip(labels, [block.inner_text() for block in blocks], strict=True)
            )
        said = shown.locator(".fingerprint").inner_text()
        browser.close()
    [server] = [code for code in codes if re.fullmatch(r"https://[^#]+", code)]
    [key] = [code for code in codes if code.startswith("hskey-")]
    [ui] = [code for code in codes if "#token=" in code]
    return Paper(server, key, ui, ca, said, steps)


def test_a_device_gets_in_by_its_page_alone_and_chats(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way, lab = Way(), house.lab
    with way.step("operator", "make the page: device_add.py"):
        told = house.playbook("device_add", f"device={DEVICE}")
    with way.step("person", "open the page, scan its codes, save the CA"):
        paper = read(tmp_path)
    name, trust, check, join, assistant, works = paper.steps
    before = house.on_phone(f"curl --max-time 10 {paper.server}/health")
    # 6 is curl's status for "could not resolve": the device does not know the house's names yet.
    assert before.returncode == 6, before.stderr
    with way.step("person", name):
        follow(house, paper.steps[name]["Once"])
    assert house.on_phone(f"curl --max-time 10 {paper.server}/health").returncode == 60
    with way.step("person", trust):
        follow(house, f"cat > {CA_FILE}", paper.ca.decode())
        compared = follow(house, paper.steps[trust]["Compare"]).strip().rpartition("=")[2]
        assert compared == paper.fingerprint and f"(SHA-256) is {compared}" in told
        follow(house, paper.steps[trust]["Trust, on Debian and Ubuntu"])
    with way.step("person", check):
        assert json.loads(follow(house, paper.steps[check]["In a terminal"])) == {"status": "pass"}
    with way.step("person", join):
        follow(house, paper.steps[join]["Once"])
        command = paper.steps[join]["Join, with server and key"]
        assert f"--login-server={paper.server} --auth-key={paper.key} " in command
        follow(house, command)
    assert paper.steps[trust]["Chromium"] == "\n".join(TRUST).format(file=CA_FILE)
    with browser_in(lab, "phone", paper.ca.decode(), viewport=PHONE) as browser:
        browser.context.set_default_timeout(PATIENCE)
        page = browser.context.new_page()
        with way.step("person", assistant):
            page.goto(paper.ui)
            expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
        with way.step("operator", "approve the request that the page shows"):
            approve(lab, page, "phone")
        with way.step("person", works):
            write(page)
        with way.step("model", "answer the first question"):
            answer = ask(page)
        with way.step("person", "open the page again, without the token"):
            again = browser.context.new_page()
            again.goto(paper.ui.partition("#")[0])
            expect(again.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)
    assert re.search(r"\w+ \w+", answer), answer
    status = json.loads(follow(house, "tailscale status --json"))
    assert status["Self"]["DNSName"].startswith(f"{DEVICE}.vpn.")
    write_report(way, capsys)


def follow(house: House, command: str, stdin: str | None = None) -> str:
    """Run a command of the page on the phone, unchanged."""
    done = house.on_phone(command, stdin)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def write_report(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    report: dict[str, Any] = {}
    for who in ("person", "operator", "model"):
        own = [step["seconds"] for step in way.steps if step["who"] == who]
        report[who] = {"steps": len(own), "seconds": round(sum(own), 1)}
    report |= asdict(way)
    (REPO / "reports").mkdir(exist_ok=True)
    (REPO / "reports" / "phone.json").write_text(json.dumps(report, indent=2) + "\n")
    with capsys.disabled():
        told = [f"{who}: {report[who]['steps']} steps, {report[who]['seconds']} s" for who in report if who != "steps"]
        print(f"\na device got in, by seconds of machines; {'; '.join(told)}")


def test_the_key_is_good_once(house: House) -> None:
    key = re.search(r"--auth-key=(hskey-\S+)", PAGE.read_text())
    assert key is not None
    # A second device that uses the same key. It has no network interface, because joining needs none.
    place = "/run/second"
    follow(
        house,
        f"mkdir {place} && systemd-run --quiet --collect --unit=second tailscaled --tun=userspace-networking --port=0 "
        f"--statedir={place} --socket={place}/socket && until test -S {place}/socket; do sleep 0.1; done",
    )
    client = f"tailscale --socket={place}/socket"
    refused = house.on_phone(
        f"{client} up --login-server=https://headscale.house.internal:443 --auth-key={key[1]} --timeout=30s"
    )
    status = json.loads(follow(house, f"{client} status --json"))
    follow(house, f"systemctl stop second; rm -r {place}")
    assert refused.returncode != 0 and status["BackendState"] != "Running"
    assert re.search("key|auth|expired|used", refused.stderr, re.IGNORECASE), refused.stderr


def test_a_ca_that_was_exchanged_on_the_page_shows_and_does_not_verify(house: House, tmp_path: Path) -> None:
    text = PAGE.read_text()
    found = re.search(r'download="([^"]+)" href="data:[\w/-]+;base64,([^"]+)"', text)
    assert found is not None
    good = subprocess.run(["base64", "-d"], input=found[2], capture_output=True, text=True, check=True).stdout
    health = "https://headscale.house.internal:443/health"
    verify = f"cat > /run/ca.crt && curl --silent --show-error --max-time 10 --cacert /run/ca.crt {health}"
    assert house.on_phone(verify, good).returncode == 0
    der = bytearray(ssl.PEM_cert_to_DER_cert(good))
    der[der.index(b"\x03\x42\x00\x04") + 10] ^= 1
    for bad in (make_ca(tmp_path), ssl.DER_cert_to_PEM_cert(bytes(der))):
        refused = house.on_phone(verify, bad)
        # curl's status 60 means that the certificate is not trusted, 35 and 77 mean that this CA cannot be read.
        assert refused.returncode in (35, 60, 77) and not refused.stdout, refused
        assert fingerprint(bad) != fingerprint(good)
