"""Tests of the verification: something is broken in a deployed house, and the verification must report it. With
`--breakages all`, one thing at a time; else the sample, in rounds.

Each cycle has four steps: break, verify, judge, deploy. The next cycle shows whether the deployment has repaired the
house, because in it no unrelated check may fail. At the end, a whole verification must pass.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.breakages import BREAKAGES
from tests.lab.breakages.breakage import HOSTS, Breakage, Report, Seen, Topology, judge, matches, not_whole
from tests.lab.breakages.results import PROPERTY, Result
from tests.lab.conftest import STAMP, TestLab
from tests.lab.inventories import GROUPS, write_inventory

#: The house makes backups, too, for a key of age's own documentation, whose private one nobody here has.
SETTINGS = {
    "backup_recipients": ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"],
    "backup_every": "1 month",
}


@dataclass
class Bench:
    """A deployed house in which things are broken."""

    lab: TestLab
    topology: Topology
    inventory: str
    reports: Path
    #: The report from before anything was broken.
    before: Report = field(default_factory=dict)
    #: Whether it is certain that the house is whole: the last cycle had no complaints.
    sure: bool = False

    def verify(self) -> Report:
        """Run the verification. Returns check id -> result. If the verification does not finish, the test fails."""
        file = self.reports / "verification.json"
        file.unlink(missing_ok=True)
        command = (sys.executable, "-m", "pytest", "tests/verify", "--inventory", self.inventory)
        done = self.lab.run(*command, "--reports", str(self.reports))
        assert done.returncode in (0, 1) and file.is_file(), done.stdout[-6000:] + done.stderr[-2000:]
        checks = json.loads(file.read_text())["checks"]
        return {check["id"]: Seen(check["status"], str(check["observed"])) for check in checks}

    def make_whole(self) -> None:
        """Deploy, and check that no check fails. So afterwards only what a test breaks is broken."""
        self.deploy()
        self.before = self.verify()
        assert not not_whole(self.before), "\n".join(not_whole(self.before))
        self.sure = True

    def deploy(self) -> Mapping[str, list[str]]:
        """Deploy. Returns operation -> hosts, for the operations that changed something."""
        operations = self.lab.deploy(inventory=self.inventory)["operations"]
        return {each["name"]: each["success"] for each in operations if each["success"]}


@pytest.fixture(scope="module")
def benches() -> dict[str, Bench]:
    return {}


@pytest.fixture
def bench(request: pytest.FixtureRequest, benches: dict[str, Bench], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A deployed house of one topology."""
    topology: Topology = request.param
    if topology not in benches:
        lab: TestLab = request.getfixturevalue(topology)
        file = write_inventory(tmp_path_factory.mktemp("house"), GROUPS[topology], SETTINGS)
        benches[topology] = Bench(lab, topology, file, tmp_path_factory.mktemp("reports"))
    return benches[topology]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "made" not in metafunc.fixturenames:
        metafunc.parametrize("bench", HOSTS, indirect=True)
        return
    if metafunc.config.getoption("--breakages") == "all":
        cases = {f"{at}-{each.id}": (at, [each]) for at in HOSTS for each in BREAKAGES if at in each.topologies}
    else:
        rounds = sorted({each.sample for each in BREAKAGES if each.sample}, key=lambda each: each.number)
        cases = {
            f"{each.topology}-{each.number}": (each.topology, [made for made in BREAKAGES if made.sample == each])
            for topology in HOSTS
            for each in rounds
            if each.topology == topology
        }
    metafunc.parametrize(("bench", "made"), cases.values(), ids=cases, indirect=["bench"])


def test_a_breakage_is_caught_and_repaired(bench: Bench, made: list[Breakage], request: pytest.FixtureRequest) -> None:
    if not bench.sure:
        bench.make_whole()
    bench.sure = False
    topology, begun = bench.topology, time.monotonic()
    for each in made:
        bench.lab.ssh(each.host(topology), f"set -e\n{each.script}")
    for each in made:
        bench.lab.ssh(HOSTS[topology]["client"], f"set -e\n{each.heard}")
    after = bench.verify()
    complaints = judge(made, topology, bench.before, after)
    for each in made:
        if each.by_hand:
            bench.lab.ssh(each.host(topology), f"set -e\n{each.by_hand.script}")
    done = bench.deploy()
    for each in made:
        bench.lab.ssh(each.host(topology), f"set -e\n{each.settled}")
    for operation in sorted({operation for each in made for operation in each.repaired_by} - done.keys()):
        complaints.append(f"not repaired: {operation!r} changed nothing; the run changed {dict(done)}")
    seconds = time.monotonic() - begun
    for each in made:
        by = [check for check in after if _caught(each, topology, check, after)]
        result = Result(topology, each, by, seconds, sorted(done.keys() - {STAMP}), complaints)
        request.node.user_properties.append((PROPERTY, result.as_json()))
    assert not complaints, "\n".join(complaints)
    bench.sure = True


def _caught(breakage: Breakage, topology: Topology, check: str, after: Report) -> bool:
    return after[check].bad and any(matches(caught.check, check, breakage, topology) for caught in breakage.must)


def test_the_house_is_whole_again(bench: Bench) -> None:
    assert bench.deploy() == {}
    assert not not_whole(bench.verify())
