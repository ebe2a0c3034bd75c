"""The Control UI in a real browser, with the steps of docs/quick-start.md.

The house is that of test_house.py: files run in the order of their names. Screenshots are kept in reports/browser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Error, Page, expect

from tests.lab.browser import TRUST, HostBrowser, browser_in, shot
from tests.lab.conftest import REPO, TestLab

GUIDE = (REPO / "docs/quick-start.md").read_text(encoding="utf-8")
NAME, PORT = "home.vpn.house.internal", 18789
PAGE = f"https://{NAME}:{PORT}/"
#: The addresses of MagicDNS, as in the laptop's resolv.conf.
RESOLVERS = {("100.100.100.100", "udp", 53), ("fd7a:115c:a1e0::53", "udp", 53)}
#: Time limits in milliseconds for a page and for the model's answer, on a machine that is busy with other labs. An idle
#: machine needs 3 s and 30 s.
PATIENCE, ANSWER = 120_000, 900_000
QUESTION = "Hello! How are you today?"
#: Chromium's errors if a connection is refused, is prohibited, has no route, or gets no answer.
CLOSED = r"ERR_CONNECTION_REFUSED|ERR_NETWORK_ACCESS_DENIED|ERR_ADDRESS_UNREACHABLE|ERR_CONNECTION_TIMED_OUT|Timeout"
COMPOSER = "textarea[aria-label='Chat composer']"
ANSWERS = ".chat-group.assistant .chat-bubble[data-message-text]"


def documented(pattern: str) -> str:
    """The only line of the quick start that matches the pattern, as people copy it."""
    found = re.findall(rf"^ *({pattern})$", GUIDE, re.MULTILINE)
    assert len(found) == 1, f"{pattern}: {found}"
    return str(found[0])


@pytest.fixture(scope="module")
def house(single: TestLab) -> TestLab:
    """The deployed house. If test_house.py has run before, this deployment changes nothing."""
    single.deploy()
    return single


@pytest.fixture(scope="module")
def token(house: TestLab) -> str:
    return house.ssh("home", documented(r"ssh root@\S+ cat /\S+").split(" ", 2)[2])


@contextmanager
def on_the_laptop(house: TestLab, **options: Any) -> Iterator[HostBrowser]:
    """A browser on the laptop that trusts the CA from the laptop's own file. At the end, the test checks that it has
    sent packets only to the house."""
    file = "/usr/local/share/ca-certificates/private-ai-house.crt"
    for command in TRUST:
        documented(re.escape(command.format(file=file)))
    with browser_in(house, "laptop", house.ssh("laptop", f"cat {file}"), **options) as browser:
        browser.context.set_default_timeout(PATIENCE)
        yield browser
    gateway = {(address, "tcp", PORT) for address in vpn_addresses(house)}
    assert browser.packets & gateway, browser.packets
    assert browser.packets <= gateway | RESOLVERS
    assert browser.names == {NAME}


def vpn_addresses(house: TestLab) -> list[str]:
    return house.ssh("home", "tailscale ip").split()


def test_the_page_says_who_it_is_and_wants_the_token(house: TestLab) -> None:
    with on_the_laptop(house) as browser:
        page = browser.context.new_page()
        response = page.goto(PAGE)
        assert response is not None and response.ok
        secured = response.security_details()
        assert secured is not None and secured["protocol"] == "TLS 1.3"
        assert (secured["issuer"], secured["subjectName"]) == ("Private AI house CA", NAME)
        expect(page.get_by_text("This Gateway expects its token")).to_be_visible(timeout=PATIENCE)
        shot(page, "1-no-token")
        nothing_of_the_house(page)
        # If only the part after # differs, the browser does not load the page again.
        page.goto("about:blank")
        page.goto(f"{PAGE}#token={'0' * 64}")
        expect(page.get_by_text("rejected the supplied Gateway secret")).to_be_visible(timeout=PATIENCE)
        shot(page, "2-wrong-token")
        nothing_of_the_house(page)


def nothing_of_the_house(page: Page) -> None:
    """Check that the page shows no field for messages, no conversation and no model's name."""
    expect(page.locator(COMPOSER)).to_have_count(0)
    expect(page.locator(".chat-group")).to_have_count(0)
    assert "smollm2" not in page.content()


def test_without_the_ca_the_browser_refuses(house: TestLab) -> None:
    with browser_in(house, "laptop") as browser, pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        browser.context.new_page().goto(PAGE)


def test_an_approved_browser_gets_an_answer_and_stays_approved(house: TestLab, token: str) -> None:
    address = re.search(r"`(https://\S+/#token=)TOKEN`", GUIDE)
    assert address is not None
    with on_the_laptop(house, viewport={"width": 1280, "height": 720}) as browser:
        page = browser.context.new_page()
        page.goto(address[1] + token)
        expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
        shot(page, "3-not-approved")
        nothing_of_the_house(page)
        without_device(page, token)
        device = approve(house, page)
        write(page)
        before = house.ssh("home", "date +@%s")
        answer = ask(page)
        assert re.search(r"\w+ \w+", answer), answer
        said = house.ssh("home", f"journalctl -u ollama --since {before} -o cat | grep -F /api/chat")
        assert "| 200 |" in said
        shot(page, "5-answer")
        page.reload()
        expect(page.locator(ANSWERS).last).to_have_attribute("data-message-text", answer, timeout=PATIENCE)
        expect(page.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)
        shot(page, "6-reloaded")
        # A new tab works without the token, because the browser itself is approved.
        other = browser.context.new_page()
        other.goto(PAGE)
        expect(other.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)
        other.close()
        house.ssh("home", devices("remove DEVICE").replace("DEVICE", device))
        page.reload()
        expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
        shot(page, "7-removed")


def without_device(page: Page, token: str) -> None:
    """Check that the gateway itself refuses, not only the page: a script with the token, but without an approved
    device, cannot send a message."""
    for client, mode in (("openclaw-control-ui", "webchat"), ("cli", "cli")):
        told = page.evaluate(SEND_WITHOUT_DEVICE, [PAGE.replace("https", "wss"), token, client, mode])
        assert told[-1]["ok"] is False, told
        assert re.search("device identity|missing scope", told[-1]["error"]["message"]), told


#: JavaScript that returns the gateway's answers to `connect` and, if that succeeded, to `chat.send`.
SEND_WITHOUT_DEVICE = """
([url, token, id, mode]) => new Promise(done => {
  const answers = [], socket = new WebSocket(url);
  const ask = (id, method, params) => socket.send(JSON.stringify({type: "req", id, method, params}));
  const client = {id, mode, version: "1", platform: "web"}, scopes = ["operator.admin", "operator.write"];
  socket.onclose = () => done(answers);
  socket.onmessage = event => {
    const frame = JSON.parse(event.data);
    if (frame.event === "connect.challenge")
      ask("1", "connect", {minProtocol: 4, maxProtocol: 4, client, role: "operator", scopes, auth: {token}});
    if (frame.type !== "res") return;
    answers.push(frame);
    if (frame.id === "1" && frame.ok)
      ask("2", "chat.send", {sessionKey: "main", message: "not from a device", idempotencyKey: "1"});
    else socket.close();
  };
})
"""


def devices(what: str) -> str:
    """The quick start's command for `openclaw devices ...`, which root runs on the gateway."""
    return documented(rf"systemd-run [^\n]* openclaw devices {what}")


def approve(house: TestLab, page: Page, host: str = "laptop") -> str:
    """Do what a person does: read the request on the page on `host`, find it in the list, compare, and approve it.

    Returns the device's ID, with which the approval can be revoked.
    """
    line = page.get_by_text(re.compile(r"openclaw devices approve [0-9a-f-]+")).first.inner_text()
    request = line.rsplit(" ", 1)[1]
    waiting = json.loads(house.ssh("home", devices("list --json")))["pending"]
    [mine] = [entry for entry in waiting if entry["requestId"] == request]
    assert mine["remoteIp"] in house.ssh(host, "tailscale ip").split()
    command = documented(r"pyinfra -y inventory.py playbooks/browser_approve\.py --data request=ID")
    done = house.run(
        *command.replace("pyinfra", ".venv/bin/pyinfra", 1).replace("request=ID", f"request={request}").split()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"({mine['remoteIp']})" in done.stderr
    return str(mine["deviceId"])


def write(page: Page) -> None:
    """Wait until the page has connected by itself, and write the question without sending it."""
    composer = page.locator(COMPOSER)
    expect(composer).to_be_visible(timeout=PATIENCE)
    # Now the page shows the model's name. Below older answers the name is there too, but hidden.
    expect(page.get_by_text("smollm2").filter(visible=True).first).to_be_visible(timeout=PATIENCE)
    composer.fill(QUESTION)
    shot(page, "4-approved")


def ask(page: Page) -> str:
    """Send the question that was written. Returns the answer after the model has finished it."""
    page.locator(COMPOSER).press("Enter")
    stop = page.get_by_role("button", name="Stop generating")
    expect(stop).to_be_visible(timeout=PATIENCE)
    expect(stop).to_be_hidden(timeout=ANSWER)
    expect(page.locator(".chat-group.user").last).to_contain_text(QUESTION)
    expect(page.locator(".chat-group").last).to_have_class(re.compile("assistant"), timeout=PATIENCE)
    return page.locator(ANSWERS).last.get_attribute("data-message-text") or ""


def test_a_stranger_does_not_see_the_page(house: TestLab) -> None:
    addresses = [*vpn_addresses(house), f"10.{house.net}.0.11", f"fd4c:4142:{house.net}::11"]
    assert len(addresses) == 4
    with browser_in(house, "stranger", house.ssh("laptop", "cat /usr/local/share/ca-certificates/*.crt")) as browser:
        page = browser.context.new_page()
        with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
            page.goto(PAGE)
        for address in addresses:
            url = f"https://[{address}]:{PORT}/" if ":" in address else f"https://{address}:{PORT}/"
            with pytest.raises(Error, match=CLOSED):
                page.goto(url, timeout=5_000)
        shot(page, "8-stranger")
        # The browser itself works: it can open a page that everybody can open.
        response = page.goto("http://198.51.100.10/")
        assert response is not None and response.ok
    assert {(address, "tcp", PORT) for address in addresses} <= browser.packets
