"""Three years without a person: hosts renew the certificates of their own services, and messages are answered.

A lab's host is a container and has the clock of its machine, so no clock is moved. Certificates are moved instead: they
are signed again for the same keys, with dates that lie earlier by the days that pass. Then the units of the real timer
run, by the real clock. The authority is good for ten years and stays as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from facts.ca import CA_FOLDER
from operations.ca.server import SERVER_DAYS
from plan.ca import OVERLAP_DAYS
from plan.renewal import SERVICE, TIMER
from tests.lab.conftest import REPO, TestLab
from tests.lab.inventories import GROUPS, write_inventory

HEADSCALE, GATEWAY = "/etc/headscale/tls", "/etc/openclaw/tls"
#: Signs the certificate on standard input again, with dates that lie some days earlier.
MOVE = f"""cat > /run/moved.in
at() {{ date -u -d "$(openssl x509 -in /run/moved.in -noout -$1 | cut -d= -f2) - DAYS days" +%Y%m%d%H%M%SZ; }}
openssl x509 -in /run/moved.in -CA {CA_FOLDER}/ca.crt -CAkey {CA_FOLDER}/ca.key \
-not_before $(at startdate) -not_after $(at enddate) 2>/dev/null; cat {CA_FOLDER}/ca.crt"""


@dataclass
class Years:
    """A house that is left alone. `sent` and `answered` count messages."""

    lab: TestLab
    sent: int = 0
    answered: int = 0
    told: list[str] = field(default_factory=list)

    def pass_by(self, days: int) -> None:
        """Let days pass, then a night: the unit of the timer runs on each host that has one. It also starts the
        services with the certificates that were moved."""
        for host, folder in (("hub", HEADSCALE), ("gate", GATEWAY), ("gate", f"{GATEWAY}/next")):
            old = self.lab.ssh(host, f"cat {folder}/cert.pem 2>/dev/null || true")
            if old:
                moved = self.ssh_with("hub", MOVE.replace("DAYS", str(days)), old)
                self.ssh_with(host, f"cat > {folder}/cert.pem; touch {folder}/cert.pem", moved)
        for host in ("hub", "gate"):
            since = self.lab.ssh(host, "date +%s")
            done = self.lab.ssh(host, f"systemctl start {SERVICE} && echo well || true")
            journal = f"journalctl --sync; journalctl -q -u {SERVICE} --since @{since} -o cat --no-pager"
            log = self.lab.ssh(host, journal)
            assert done == "well", f"{host}: {log}"
            self.told.append(f"{host}: {log}")

    def ssh_with(self, host: str, command: str, text: str) -> str:
        done = subprocess.run(
            ["lab/ssh", host, command],
            cwd=REPO,
            input=f"{text}\n",
            env=self.lab.env,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def message(self) -> None:
        """Send a message from the laptop to the model, and wait for its answer."""
        self.sent += 1
        done = self.lab.run(
            str(Path(sys.executable).parent / "pyinfra"), "-y", self.lab.inventory, "playbooks/chat.py",
            "--data", f"message=What is {self.sent} plus {self.sent}?",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        self.answered += 1

    def served(self, host: str, name: str, port: int) -> int:
        """For how many days the certificate is good that a service really serves to the laptop; checks its chain."""
        said = self.lab.ssh(
            "laptop",
            f"openssl s_client -connect {name}:{port} -verify_hostname {name} </dev/null 2>/dev/null | "
            "tee /run/served | grep -o 'Verify return code: .*' | sort -u; "
            'date -d "$(openssl x509 -in /run/served -noout -enddate | cut -d= -f2)" +%s; date +%s',
        ).splitlines()
        assert said[0] == "Verify return code: 0 (ok)", (host, said)
        return (int(said[1]) - int(said[2])) // 86400

    def days(self) -> tuple[int, int]:
        """Days left of what Headscale and OpenClaw serve."""
        return (
            self.served("hub", "headscale.house.internal", 443),
            self.served("gate", "gate.vpn.house.internal", 18789),
        )


@pytest.fixture
def alone(split: TestLab, tmp_path: Path) -> str:
    """The inventory of an owner who leaves for years. As shipped, the nodes of people end after half a year;
    docs/renewal.md says what to set."""
    return write_inventory(tmp_path, GROUPS["split"], {"headscale_node_expiry": "0"})


def test_a_house_left_alone_for_three_years_answers(split: TestLab, alone: str) -> None:
    split.deploy(inventory=alone)
    house, begun = Years(split), time.monotonic()
    for host in ("hub", "gate"):
        assert split.ssh(host, f"systemctl is-active {TIMER}") == "active"
    assert house.days() == (SERVER_DAYS - 1, SERVER_DAYS - 1)
    house.message()

    # Day 414: more than half of the life is over. The coordinator signs a new certificate for itself.
    house.pass_by(414)
    assert house.days() == (SERVER_DAYS - 1, SERVER_DAYS - 415)
    house.message()

    # Day 796: the gateway, which cannot sign, uses its successor.
    house.pass_by(382)
    first, second = house.days()
    assert first == SERVER_DAYS - 383
    assert second == 2 * SERVER_DAYS - OVERLAP_DAYS - 797
    house.message()

    # Day 1095: three years. The coordinator has renewed its certificate for the second time.
    house.pass_by(299)
    assert house.days() == (SERVER_DAYS - 1, 2 * SERVER_DAYS - OVERLAP_DAYS - 1096)
    house.message()
    assert (house.sent, house.answered) == (4, 4)
    renewed = [line for line in "\n".join(house.told).splitlines() if line.endswith(": renewed")]
    assert len(renewed) == 3, house.told

    # The owner is back. The house says what is due; a run makes a new successor, and restarts nothing.
    program = str(Path(sys.executable).parent / "pyinfra")
    command = (program, "-y", alone, "playbooks/status.py", "--data", "now=true", "--data", "json=true")
    said = split.run(*command)
    assert said.returncode == 0, said.stdout
    not_well = {each["host"]: each["not_well"] for each in json.loads(said.stdout)["hosts"]}
    assert f"successor of {GATEWAY}/cert.pem is missing. Next: run the deployment" in not_well["gate"]
    results = split.deploy(inventory=alone)
    changed = {each["name"]: each["success"] for each in results["operations"] if each["success"]}
    assert set(changed) == {"OpenClaw | Certificate", "Drift | Stamp"} and changed["OpenClaw | Certificate"] == ["gate"]
    results = split.deploy(inventory=alone)
    assert not [each for each in results["operations"] if each["success"]]
    seconds = time.monotonic() - begun
    print(f"three years in {seconds:.0f} s: {house.sent} messages sent, {house.answered} answered; {renewed}")


def test_a_renewal_that_is_cut_off_is_finished_by_the_next_night(split: TestLab, alone: str) -> None:
    split.deploy(inventory=alone)
    house = Years(split)
    stamp = "/var/lib/private-ai/stamps/headscale.service"
    before = split.ssh("hub", f"cat {stamp}; sha256sum {HEADSCALE}/key.pem")
    # A new key and certificate are in their places, and Headscale does not start with them.
    folder = "/run/systemd/system/headscale.service.d"
    split.ssh("hub", f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/no.conf")
    try:
        old = split.ssh("hub", f"cat {HEADSCALE}/cert.pem")
        moved = house.ssh_with("hub", MOVE.replace("DAYS", "500"), old)
        house.ssh_with("hub", f"cat > {HEADSCALE}/cert.pem", moved)
        assert split.ssh("hub", f"systemctl start {SERVICE} || echo failed", check=False).endswith("failed")
    finally:
        split.ssh("hub", f"rm -r {folder}")
    cut = split.ssh("hub", f"cat {stamp}; sha256sum {HEADSCALE}/key.pem")
    assert cut.splitlines()[0] == before.splitlines()[0] and cut.splitlines()[1] != before.splitlines()[1]
    split.ssh("hub", f"systemctl start {SERVICE}")
    assert split.ssh("hub", f"cat {stamp}") != before.splitlines()[0]
    assert house.served("hub", "headscale.house.internal", 443) == SERVER_DAYS - 1
    house.message()
    results = split.deploy(inventory=alone)
    assert not [each for each in results["operations"] if each["success"]]
