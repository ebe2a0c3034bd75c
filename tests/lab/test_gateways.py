"""Two people who each have a gateway. A house with one gateway gets a second one, and people move to the other
gateway."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import INVENTORIES, STAMP, TestLab, bring_up
from tests.lab.inventories import write_inventory

PEOPLE = {"headscale_users": ["anna", "ben"]}
OWN: dict[str, dict[str, Any]] = {"laptop": {"tailscale_user": "anna"}, "desk": {"tailscale_user": "ben"}}
ONE = {"coordinator": ["home"], "gateway": ["home"], "model_hosts": ["home"], "clients": ["laptop", "desk"]}
PORT = 18789


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """A house that first had one gateway for two people. Then inventory_pair.py was deployed, with a second gateway."""
    lab = bring_up("pair")
    lab.deploy(inventory=write_inventory(tmp_path_factory.mktemp("one"), ONE, PEOPLE, OWN))
    for client in ("laptop", "desk"):
        assert answers(lab, client, "home")
    lab.deploy()
    yield lab
    lab.lab("down")


def answers(lab: TestLab, client: str, gateway: str) -> bool:
    """Whether a gateway answers a client that it is ready, over HTTPS with a certificate that the client trusts."""
    url = f"https://{gateway}.vpn.house.internal:{PORT}/readyz"
    return '"ready":true' in lab.ssh(client, f"curl --silent --max-time 5 {url} || true")


def token(lab: TestLab, gateway: str) -> str:
    return lab.ssh(gateway, "cat /etc/openclaw/token")


def playbook(lab: TestLab, name: str, *arguments: str, inventory: str = "") -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "pyinfra")
    return lab.run(program, "-y", inventory or lab.inventory, f"playbooks/{name}.py", *arguments)


def test_a_second_run_changes_nothing(grown: TestLab) -> None:
    results = grown.deploy()
    assert {each["name"]: each["success"] for each in results["operations"] if each["success"]} == {}


def test_the_verification_passes_with_a_message_through_each_gateway(grown: TestLab, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pytest", "tests/verify", "--inventory", INVENTORIES["pair"])
    done = grown.run(*command, "--reports", str(tmp_path))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    checks = {each["id"]: each for each in json.loads((tmp_path / "verification.json").read_text())["checks"]}
    for client, own, other in (("laptop", "home", "gate"), ("desk", "gate", "home")):
        assert checks[f"message.answered[{client}]"]["to"] == own
        assert f"{PORT}" in checks[f"vpn.closed[{client}-{other}]"]["expected"]
        assert checks[f"openclaw.cage[{own}]"]["status"] == checks[f"container.ollama[{own}]"]["status"] == "pass"


def test_people_reach_their_own_gateway_and_tokens_are_good_at_one(grown: TestLab) -> None:
    assert answers(grown, "laptop", "home") and answers(grown, "desk", "gate")
    assert not answers(grown, "laptop", "gate") and not answers(grown, "desk", "home")
    mine, other = token(grown, "home"), token(grown, "gate")
    assert mine != other
    name = f"gate.vpn.house.internal:{PORT}"
    ask = f"curl --silent --max-time 10 --output /dev/null --write-out '%{{http_code}}' https://{name}/v1/models"
    said = [grown.ssh("desk", f"printf 'Authorization: Bearer {each}' | {ask} --header @-") for each in (mine, other)]
    assert said == ["401", "200"]


def test_a_new_token_for_one_gateway_leaves_the_other_its_own(grown: TestLab) -> None:
    before = token(grown, "home"), token(grown, "gate")
    done = playbook(grown, "token_rotate", "--limit", "gate")
    assert done.returncode == 0, done.stderr[-3000:]
    assert token(grown, "home") == before[0] and token(grown, "gate") != before[1]


def test_a_device_s_page_leads_to_the_gateway_of_its_owner(grown: TestLab, tmp_path: Path) -> None:
    devices = [{"name": f"test-{owner}", "owner": owner, "kind": "linux"} for owner in ("anna", "ben")]
    groups = {**ONE, "gateway": ["home", "gate"]}
    own = {**OWN, "home": {"openclaw_users": ["anna"]}, "gate": {"openclaw_users": ["ben"]}}
    file = write_inventory(tmp_path, groups, {**PEOPLE, "headscale_devices": devices}, own)
    for owner, gateway in (("anna", "home"), ("ben", "gate")):
        done = playbook(grown, "device_add", "--data", f"device=test-{owner}", inventory=file)
        assert done.returncode == 0, done.stderr[-3000:]
        page = Path("enrolment", f"test-{owner}.html")
        text = page.read_text()
        page.unlink()
        assert f"https://{gateway}.vpn.house.internal:{PORT}/" in text and token(grown, gateway) in text
    shown = json.loads(playbook(grown, "device_list", "--data", "json=true", inventory=file).stdout)
    assert shown["browsers_unknown"] == ""
    # The next run expires the keys of these pages, because the devices are not in its settings.
    assert [each["name"] for each in grown.deploy()["operations"] if each["success"]] == [
        "Devices | Nodes of the VPN",
        STAMP,
    ]


def test_people_who_change_places_are_let_in_at_the_other_gateway_alone(grown: TestLab, tmp_path: Path) -> None:
    groups = {**ONE, "gateway": ["home", "gate"]}
    own = {**OWN, "home": {"openclaw_users": ["ben"]}, "gate": {"openclaw_users": ["anna"]}}
    results = grown.deploy(inventory=write_inventory(tmp_path, groups, PEOPLE, own))
    assert [each["name"] for each in results["operations"] if each["success"]] == [
        "Headscale | Configuration, policy, service",
        # The health program of a client looks for the name of its person's gateway.
        "Health | Program, timer",
        STAMP,
    ]
    # The control server was restarted, and the nodes connect to it again by themselves.
    end = time.monotonic() + 90
    while not (answers(grown, "laptop", "gate") and answers(grown, "desk", "home")):
        assert time.monotonic() < end
    assert not answers(grown, "laptop", "home") and not answers(grown, "desk", "gate")
