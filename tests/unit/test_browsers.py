"""Browsers that wait for approval, and the gateway's token: what is shown, what is refused, what the scripts do."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from operations.engine.component import make_secret
from operations.openclaw.token import rotate_script
from plan.devices.device_list import entries
from plan.devices.vpn_nodes import node_of, standing
from plan.engine.errors import SettingError
from plan.engine.want import Secret, Unit
from plan.openclaw.browser_requests import Request, described, named_request, requests, unchanged
from plan.openclaw.browsers import Pairing, parse_pairings
from tests.unit.houses import single

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LAPTOP = Pairing("r-1", "control-ui", "100.64.0.2", True, NOW - timedelta(seconds=9), "d" * 64, "Linux", "operator")
ELSEWHERE = replace(LAPTOP, id="r-2", address="", since=NOW - timedelta(seconds=30), device="e" * 64)
PAIRED = replace(LAPTOP, id="d" * 64, waits=False)
FOUND = (Request(LAPTOP, "laptop, host of people"), Request(ELSEWHERE, "NO NODE OF THE VPN"))


def test_requests_are_told_by_the_node_they_came_from_and_paired_browsers_are_none() -> None:
    house = single()
    nodes = [
        node_of({"id": n, "name": name, "given_name": name, "ip_addresses": [f"100.64.0.{n}"], "user": {"name": user}})
        for n, name, user in ((1, "home", ""), (2, "laptop", "people"), (9, "burglar", "people"))
    ]
    burglar = replace(LAPTOP, id="r-3", address="100.64.0.9", since=None)
    roll = entries(house, standing(house, nodes, {}), [], {}, [PAIRED, LAPTOP, ELSEWHERE, burglar], NOW)
    found = requests(roll)
    assert [each.pairing.id for each in found] == ["r-3", "r-2", "r-1"]
    assert found[0].whose.startswith("burglar, not designated: ")
    assert [each.whose for each in found[1:]] == ["NO NODE OF THE VPN", "laptop, host of people"]


def test_a_request_is_described_with_all_that_tells_it_apart() -> None:
    text = described(FOUND[0], NOW)
    for words in ("laptop, host of people (100.64.0.2)", "control-ui on Linux", "d" * 12, "operator", "9 s ago", "r-1"):
        assert words in text
    assert "unknown address" in described(FOUND[1], NOW)


def test_what_a_browser_says_of_itself_does_not_reach_the_terminal_raw() -> None:
    [found] = parse_pairings(
        '{"paired": [], "pending": [{"requestId": "r", "deviceId": "d", "displayName": "x\\u001b[2Jy\\n1. z"}]}',
        "home",
    )
    assert found.name == "x?[2Jy?1. z"


def test_only_the_id_of_a_request_that_waits_is_taken() -> None:
    assert named_request(FOUND, "r-2") is FOUND[1]
    for given in ("r", "r-", "latest", "1", 1, "d" * 64):
        with pytest.raises(SettingError) as caught:
            named_request(FOUND, given)
        for words in ("--data request", "r-1 (laptop, host of people)", "r-2 (NO NODE OF THE VPN)"):
            assert words in str(caught.value)
        assert "did you mean" not in str(caught.value)
    with pytest.raises(SettingError, match="there is none"):
        named_request((), "r-1")


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ((ELSEWHERE, LAPTOP), True),
        ((ELSEWHERE,), False),
        ((PAIRED,), False),
        # The waiting request has another ID, or another address, or is of another browser with the same ID.
        ((replace(LAPTOP, id="r-9"),), False),
        ((replace(LAPTOP, address="100.64.0.9"),), False),
        ((replace(LAPTOP, device="f" * 64),), False),
    ],
)
def test_a_request_is_approved_only_as_it_was_shown(now: tuple[Pairing, ...], same: bool) -> None:
    assert unchanged(LAPTOP, now) is same


def me(path: Path) -> Secret:
    return Secret(str(path), str(os.getuid()), str(os.getgid()))


def test_a_secret_is_made_once_and_another_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "token"
    said = []
    for anew in (False, False, True):
        subprocess.run(["sh", "-c", make_secret(me(file), anew)], check=True)
        said.append(file.read_text())
        assert file.stat().st_mode & 0o777 == 0o400 and len(said[-1]) == 64
    assert said[0] == said[1] != said[2]
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize(
    ("dead", "code", "words"),
    [("401", 0, ""), ("200", 1, "the old token is answered with 200, the new one with 200")],
)
def test_a_new_token_counts_when_the_old_one_is_refused(tmp_path: Path, dead: str, code: int, words: str) -> None:
    """`systemctl` and the gateway are stand-ins here; the shell and the files are real."""
    file = tmp_path / "token"
    file.write_text("old")
    gateway = tmp_path / "asking"
    gateway.write_text(f'#!/bin/sh\ngrep -q "Bearer old" && printf {dead} || printf 200\n')
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    for program in (gateway, tmp_path / "systemctl"):
        program.chmod(0o755)
    script = rotate_script(me(file), Unit("x.service", (str(file),)), str(gateway))
    script = script.replace("/var/lib/private-ai/stamps", str(tmp_path / "stamps"))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, words, "")
    assert "restart x.service" in (tmp_path / "calls").read_text()
    assert len(file.read_text()) == 64 and (tmp_path / "stamps/x.service").read_text().strip()


def test_without_a_token_nothing_is_made(tmp_path: Path) -> None:
    script = rotate_script(me(tmp_path / "token"), Unit("x.service"), "false")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "run the deployment" in done.stderr
    assert list(tmp_path.iterdir()) == []
