"""The program with which a host renews its certificates really runs here in a folder; systemctl only notes its calls.
And the playbooks that make new keys."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facts.ca import CA_FOLDER, RENEW_DAYS
from facts.engine.component_state import STAMPS, inputs_digest
from operations import renewal as new_keys
from operations.ca.server import SERVER_DAYS
from operations.engine.component import start_unit
from operations.renewal import NODE_KEY, RELAY_KEY, relay_script
from plan.ca import SWAP_DAYS
from plan.engine.want import Unit
from plan.house.house import House
from tasks import ca, openclaw, renewal
from tasks.engine.hosts import This
from tasks.engine.house import WrongInput
from tests.unit import houses
from tests.unit.fakes import PROFILE
from tests.unit.test_ca import aged, authority_of, days_left, issue, state, succeed
from tests.unit.test_hostile_playbooks import coordinator, play

#: Notes its arguments. A restart fails while $ROOT/broken is there.
SYSTEMCTL = """#!/bin/sh
case $* in restart*) echo "$*" >> "$ROOT/restarted"; test ! -e "$ROOT/broken" ;; esac
"""


@dataclass
class Night:
    """A host with one certificate, in a folder."""

    root: Path
    house: House
    host: str
    name: str

    @property
    def unit(self) -> Unit:
        return Unit("it.service", inputs=(f"{self.root}/tls/cert.pem", f"{self.root}/tls/key.pem"))

    @property
    def names(self) -> str:
        return f"DNS:{self.name}"

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        for path, here in ((CA_FOLDER, "ca"), (ca.certificate_path(self.house), "ca/ca.crt"), (STAMPS, "stamps")):
            script = script.replace(path, f"{self.root}/{here}")
        env = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}", "ROOT": str(self.root)}
        return subprocess.run(["sh", "-c", script], env=env, text=True, capture_output=True, check=False)

    def comes(self) -> subprocess.CompletedProcess[str]:
        """Run the program."""
        this = This(self.house, self.house.member(self.host), PROFILE)
        served = renewal.Served(f"{self.root}/tls", getpass.getuser(), self.name, self.unit)
        return self.sh(renewal.program(this, [served], f"{self.root}/run/last-run", STAMPS))

    def started(self) -> None:
        """As a deployment leaves a unit that it has started."""
        assert self.sh(start_unit(self.unit)).returncode == 0
        (self.root / "restarted").unlink()

    @property
    def restarts(self) -> int:
        file = self.root / "restarted"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @property
    def as_stamped(self) -> bool:
        """Whether the next deployment would find the unit started with what is there now."""
        return self.sh(inputs_digest(self.unit)).stdout == (self.root / "stamps/it.service").read_text()


def night(root: Path, house: House, host: str, name: str) -> Night:
    authority_of(root, 3650)
    (root / "bin").mkdir()
    (root / "bin/systemctl").write_text(SYSTEMCTL)
    (root / "bin/systemctl").chmod(0o755)
    made = Night(root, house, host, name)
    issue(root, made.names)
    made.started()
    return made


@pytest.fixture
def hub(tmp_path: Path) -> Night:
    """The coordinator, which has the authority."""
    return night(tmp_path, houses.split(), "hub", "headscale.house.internal")


@pytest.fixture
def gate(tmp_path: Path) -> Night:
    """A gateway on another host, with a successor of its certificate."""
    made = night(tmp_path, houses.split(), "gate", "gate.vpn.house.internal")
    succeed(tmp_path, made.names)
    return made


def test_a_night_on_which_nothing_is_due_changes_nothing(hub: Night) -> None:
    before = (hub.root / "tls/cert.pem").read_text()
    done = hub.comes()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (hub.root / "tls/cert.pem").read_text() == before and hub.restarts == 0
    # A run that is planning at this moment goes on.
    assert (hub.root / "run/last-run").read_text() == ""


def test_the_coordinator_signs_when_half_of_the_life_is_over_and_restarts_the_service(hub: Night) -> None:
    aged(hub.root, SERVER_DAYS - RENEW_DAYS + 1)
    hub.started()
    key = (hub.root / "tls/key.pem").read_text()
    done = hub.comes()
    assert done.returncode == 0, done.stderr
    assert f"fewer than {RENEW_DAYS} days left" in done.stdout and ": renewed" in done.stdout
    assert days_left(hub.root) > SERVER_DAYS - 1 and (hub.root / "tls/key.pem").read_text() != key
    assert hub.restarts == 1 and hub.as_stamped
    # A run that has planned for this host before is refused: its plan is out of date.
    assert "the renewal of certificates, by hub itself" in (hub.root / "run/last-run").read_text()
    assert hub.comes().stdout == "" and hub.restarts == 1


def test_a_gateway_uses_its_successor_once_and_then_says_that_a_run_is_needed(gate: Night) -> None:
    aged(gate.root, SERVER_DAYS - SWAP_DAYS - 1)
    gate.started()
    assert gate.comes().stdout == ""
    aged(gate.root, 2)
    gate.started()
    done = gate.comes()
    assert done.returncode == 0 and ": renewed" in done.stdout, done.stderr
    assert gate.restarts == 1 and gate.as_stamped
    assert state(gate.root, gate.names, successor=True) == "it has no successor"
    # Years later, the successor ends as well.
    aged(gate.root, SERVER_DAYS)
    gate.started()
    kept = (gate.root / "tls/cert.pem").read_text()
    done = gate.comes()
    assert done.returncode == 1 and "cert.pem is missing. Next: run the deployment" in done.stderr
    assert (gate.root / "tls/cert.pem").read_text() == kept


def test_a_service_that_was_not_restarted_is_restarted_the_next_night(hub: Night) -> None:
    aged(hub.root, SERVER_DAYS - 10)
    hub.started()
    (hub.root / "broken").touch()
    done = hub.comes()
    assert done.returncode == 1 and "it.service did not start with its new certificate" in done.stdout
    assert not hub.as_stamped
    (hub.root / "broken").unlink()
    done = hub.comes()
    assert done.returncode == 0 and "it.service: started with its new certificate" in done.stdout
    assert ": renewed" not in done.stdout and hub.as_stamped


def test_what_somebody_else_changed_is_left_to_the_next_run(hub: Night) -> None:
    """A file that was edited by hand, or a deployment that was cut off before it restarted the unit with another file:
    the certificate is older than the stamp."""
    other = hub.root / "config"
    unit = Unit("it.service", inputs=(*hub.unit.inputs, str(other)))
    assert hub.sh(start_unit(unit)).returncode == 0
    (hub.root / "restarted").unlink()
    other.write_text("changed")
    this = This(hub.house, hub.house.member("hub"), PROFILE)
    served = renewal.Served(f"{hub.root}/tls", getpass.getuser(), hub.name, unit)
    done = hub.sh(renewal.program(this, [served], f"{hub.root}/run/last-run", STAMPS))
    assert done.returncode == 0 and hub.restarts == 0


def test_a_unit_that_was_never_started_waits_for_a_run(hub: Night) -> None:
    (hub.root / "stamps/it.service").unlink()
    done = hub.comes()
    assert done.returncode == 1 and "was not deployed completely. Next: run the deployment" in done.stdout
    assert hub.restarts == 0


def test_a_run_at_work_is_not_disturbed(hub: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "PATIENCE", 0)
    aged(hub.root, SERVER_DAYS)
    lock = hub.root / "run/last-run"
    lock.parent.mkdir()
    holder = subprocess.Popen(
        ["sh", "-c", f"exec 9<>{shlex.quote(str(lock))}; flock 9; echo held; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        done = hub.comes()
        assert done.returncode == 0 and "a run is at work on this host" in done.stdout and hub.restarts == 0
    finally:
        holder.communicate(b"\n")
    assert ": renewed" in hub.comes().stdout


def test_the_relay_s_key_is_removed_just_before_the_restart_and_a_second_run_makes_up_for_a_cut(hub: Night) -> None:
    key = hub.root / "derp"
    script = relay_script(hub.unit).replace(RELAY_KEY, str(key))
    # The stub makes no key, as a Headscale that does not start.
    done = hub.sh(script)
    assert done.returncode == 1 and "Headscale has made no new key" in done.stderr
    makes = f"case $* in restart*) date +%N > {key}; echo x >> $ROOT/restarted ;; esac\n"
    (hub.root / "bin/systemctl").write_text(f"#!/bin/sh\n{makes}")
    key.write_text("the old one\n")
    for _ in range(2):
        before = key.read_text()
        done = hub.sh(script)
        assert done.returncode == 0, done.stderr
        assert key.read_text() != before
    key.unlink()
    assert hub.sh(script).returncode == 0 and key.exists()


def test_the_node_s_public_key_is_found_in_what_tailscale_says(tmp_path: Path) -> None:
    (tmp_path / "tailscale").write_text(
        '#!/bin/sh\ncat <<END\n{\n  "Self": {\n    "ID": "1",\n    "PublicKey": "nodekey:0a1b",\n  },\n}\nEND\n'
    )
    (tmp_path / "tailscale").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(["sh", "-c", NODE_KEY], env=env, capture_output=True, text=True).stdout == "nodekey:0a1b\n"


@pytest.mark.parametrize("name", [None, "", "lapptop", "all", "007", "laptop\nhome"])
def test_a_host_that_is_not_in_the_house_gets_no_new_key(name: str | None) -> None:
    with pytest.raises(WrongInput) as refused:
        play("node_key_rotate", {} if name is None else {"on": name}, coordinator())
    for words in ("--data on", "home, laptop", "nothing was changed"):
        assert words in str(refused.value)


def test_a_node_s_key_is_made_with_what_the_deployment_would_join_with(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[dict[str, Any]] = []
    monkeypatch.setattr(new_keys, "node_key_rotated", lambda **given: wanted.append(given))
    for name, tags, user in (("laptop", (), "people"), ("home", houses.single().member("home").tags, "")):
        play("node_key_rotate", {"on": name}, coordinator())
        assert (wanted[-1]["target"], wanted[-1]["tags"], wanted[-1]["user"]) == (name, tags, user)
        assert wanted[-1]["control"] == "https://headscale.house.internal:443"


def test_a_gateway_that_was_not_deployed_gets_no_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    house = houses.split()
    monkeypatch.setattr(openclaw, "account_number", lambda: None)
    with pytest.raises(
        WrongInput, match=r"^gate has no OpenClaw yet \(nothing was changed\). Next: run the deployment"
    ):
        renewal.to_rotate(This(house, house.member("gate"), PROFILE))
    monkeypatch.setattr(openclaw, "account_number", lambda: 992)
    found = {
        member.name: [(each.unit.name, each.name) for each, _ in renewal.to_rotate(This(house, member, PROFILE))]
        for member in house.members
    }
    assert found == {
        "hub": [("headscale.service", "headscale.house.internal")],
        "gate": [("openclaw.service", "gate.vpn.house.internal")],
        "brain": [],
        "laptop": [],
    }


def test_without_a_control_server_nothing_is_begun() -> None:
    here = coordinator()
    silent = SimpleNamespace(answers=False)
    here.facts = {fact: silent if fact.__name__ == "Headscale" else answer for fact, answer in here.facts.items()}
    for playbook, data in (("relay_key_rotate", {}), ("node_key_rotate", {"on": "laptop"})):
        with pytest.raises(WrongInput, match=r"does not answer \(nothing was changed\). Next: run the deployment"):
            play(playbook, data, here)
