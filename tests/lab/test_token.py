"""A new token for the gateway, and its effect on an approved browser. Both playbooks run as people run them.

The house is that of test_house.py: files run in the order of their names.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest
from playwright.sync_api import Page, expect

from tests.lab.conftest import TestLab
from tests.lab.test_ui import COMPOSER, PAGE, PATIENCE, on_the_laptop

MODELS = f"{PAGE}v1/models"


@pytest.fixture(scope="module")
def house(single: TestLab) -> TestLab:
    """The deployed house. If test_house.py has run before, this deployment changes nothing."""
    single.deploy()
    return single


def playbook(house: TestLab, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return house.run(".venv/bin/pyinfra", "-y", house.inventory, f"playbooks/{name}.py", *arguments)


def token_of(house: TestLab) -> str:
    return house.ssh("home", "cat /etc/openclaw/token")


def status(house: TestLab, token: str) -> str:
    """The HTTP status that the gateway answers to the laptop. 000 means that there was no answer."""
    header = shlex.quote(f'header = "Authorization: Bearer {token}"')
    ask = f"curl --silent --max-time 2 --config - --output /dev/null --write-out '%{{http_code}}' {MODELS}"
    return house.ssh("laptop", f"printf %s {header} | {ask} || true")


@contextmanager
def asked_all_the_time(house: TestLab, token: str) -> Iterator[list[str]]:
    """Ask the gateway with `token` all the time, and collect its answers. It stops at the first refusal, because the
    gateway locks the laptop out after ten."""
    said: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set() and said[-1:] != ["401"]:
            said.append(status(house, token))
            time.sleep(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield said
    finally:
        over.set()
        asking.join()


def browsers(house: TestLab) -> dict[str, list[dict[str, str]]]:
    command = "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect podman exec openclaw openclaw"
    found: dict[str, list[dict[str, str]]] = json.loads(house.ssh("home", f"{command} devices list --json"))
    return found


def test_a_new_token_kills_the_old_one_and_approved_browsers_stay_or_go_as_asked(house: TestLab) -> None:
    first = token_of(house)
    with on_the_laptop(house) as browser:
        page = browser.context.new_page()
        page.goto(f"{PAGE}#token={first}")
        approve(house, page)
        expect(page.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)

        with asked_all_the_time(house, first) as said:
            done = playbook(house, "token_rotate", "-vvv")
        assert done.returncode == 0, done.stderr[-4000:]
        second = token_of(house)
        assert re.fullmatch(r"[0-9a-f]{64}", second) and second != first
        assert house.ssh("home", "stat -c '%U %G %a' /etc/openclaw/token") == "openclaw openclaw 400"
        for secret in (first, second):
            assert secret not in done.stdout + done.stderr
        # The old token is accepted until the gateway stops, which it announces with 503. After that it is refused.
        assert [answer for answer, _ in groupby(said) if answer in ("200", "401")] in (["200"], ["200", "401"]), said
        assert set(said) <= {"200", "503", "000", "401"}, said
        assert status(house, first) == "401" and status(house, second) == "200"
        # The browser's key was made with the old token. The browser needs the new token once, and no new approval.
        expect(page.locator(COMPOSER)).to_have_count(0, timeout=PATIENCE)
        page.close()
        for address in (f"{PAGE}#token={second}", PAGE):
            page = browser.context.new_page()
            page.goto(address)
            expect(page.locator(COMPOSER)).to_be_visible(timeout=PATIENCE)
            page.close()
        assert house.deploy()["totals"]["success"] == 0

        done = playbook(house, "token_rotate", "--data", "pairings=drop", "--data", "show=true")
        assert done.returncode == 0, done.stderr[-4000:]
        third = token_of(house)
        assert third != second and done.stdout.splitlines().count(third) == 1 and third not in done.stderr
        assert browsers(house)["paired"] == []
        assert status(house, second) == "401" and status(house, third) == "200"
        page = browser.context.new_page()
        page.goto(PAGE)
        expect(page.get_by_text("This Gateway expects its token")).to_be_visible(timeout=PATIENCE)
        expect(page.locator(COMPOSER)).to_have_count(0)


def approve(house: TestLab, page: Page) -> None:
    """Approve a browser. The list names the laptop and approves nothing. A wrong ID approves nothing. The right ID
    approves the browser."""
    expect(page.get_by_text("Approve this browser")).to_be_visible(timeout=PATIENCE)
    line = page.get_by_text(re.compile(r"openclaw devices approve [0-9a-f-]+")).first.inner_text()
    request = line.rsplit(" ", 1)[1]
    # Without a terminal, the playbook prints a list, and the command for the approval.
    shown = playbook(house, "browser_approve")
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "laptop, host of people" in shown.stderr
    command = f"pyinfra -y {house.inventory} playbooks/browser_approve.py --data request={request}"
    assert command in shown.stdout.splitlines()
    wrong = playbook(house, "browser_approve", "--data", f"request={'0' * 8}-0000-4000-8000-{'0' * 12}")
    assert wrong.returncode != 0 and request in wrong.stderr and "(nothing was changed)" in wrong.stderr
    dry = playbook(house, "browser_approve", "--data", f"request={request}", "--dry")
    assert dry.returncode == 0, dry.stderr[-3000:]
    [mine] = [each for each in browsers(house)["pending"] if each["requestId"] == request]
    others = len(browsers(house)["paired"])
    done = playbook(house, "browser_approve", "--data", f"request={request}")
    assert done.returncode == 0, done.stderr[-3000:]
    found = browsers(house)
    assert request not in [each["requestId"] for each in found["pending"]]
    assert mine["deviceId"] in [each["deviceId"] for each in found["paired"]] and len(found["paired"]) == others + 1
