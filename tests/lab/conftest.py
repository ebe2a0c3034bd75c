"""Labs for the tests. They have their own names and networks, so that the demo's lab can run at the same time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab.state import current_lab
from lab.topology import FRESH, TOPOLOGIES
from lab.why import collect
from tests.conftest import group_of
from tests.lab.breakages import results

REPO = Path(__file__).parent.parent.parent
#: The operation that writes the stamp, after a run has changed something on a host.
STAMP = "Drift | Stamp"
INVENTORIES = {"single": "inventory.py", "split": "inventory_split.py", "pair": "inventory_pair.py"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--breakages",
        choices=("sample", "all"),
        default="sample",
        help="which breakages tests/lab/test_breakages.py makes: a fixed sample of all components, or all",
    )

    parser.addoption(
        "--interruptions",
        choices=("few", "all"),
        default="few",
        help="whether tests/lab/test_interruptions.py interrupts runs at each step (all), or is skipped (few)",
    )

    parser.addoption(
        "--upgrades",
        choices=("one", "all"),
        default="one",
        help="whether tests/lab/test_upgrade.py makes one upgrade of a broken version, or all upgrades",
    )
    parser.addoption(
        "--households",
        type=int,
        default=0,
        help="how many first deployments of each topology tests/lab/test_lived_in.py makes; 0: only one, of `single`",
    )
    parser.addoption(
        "--busy",
        action="store_true",
        help="keep this machine busy meanwhile, with two processes that count",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests: first those that need a bare lab, then those that deploy houses, then those that need a deployed
    house. The breakages come last."""
    here = Path(__file__).parent
    bare = tuple(here / f"test_{name}.py" for name in ("bare", "other_programs"))
    late = tuple(
        here / f"test_{name}.py" for name in ("backup", "restore", "moved", "diff", "health", "devices", "breakages")
    )
    items.sort(key=lambda item: late.index(item.path) + 1 if item.path in late else -(item.path in bare))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    found = [value for each in reports for name, value in each.user_properties if name == results.PROPERTY]
    if found:
        terminalreporter.section("breakages")
        terminalreporter.write_line(results.table(found, config.get_terminal_writer().fullwidth))
        results.write(found, REPO / "reports" / "breakages.json")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failed test, save the state of its lab's hosts, before the lab is removed."""
    report = yield
    if report.failed:
        given = getattr(item, "funcargs", {}).values()
        found = (lab for each in given for lab in (each, getattr(each, "lab", None)))
        labs = {lab.name for lab in found if isinstance(lab, TestLab)}
        for name in sorted(labs):
            folder = REPO / "reports" / "why" / re.sub(r"[^\w.-]+", "-", item.name) / name
            lines = [f"{each.host}: {each.brief} ({each.file})" for each in collect(current_lab(name), folder)]
            report.sections.append((f"lab {name}", "\n".join(lines)))
    return report


@dataclass(frozen=True)
class TestLab:
    """A lab that is up. `hosts` are the hosts of the house."""

    __test__ = False
    topology: str
    hosts: tuple[str, ...]
    net: str
    profile: str = FRESH

    @property
    def name(self) -> str:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        return "-".join(filter(None, ("test" if self.profile == FRESH else "lived", self.topology, worker)))

    @property
    def inventory(self) -> str:
        return INVENTORIES[self.topology]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "LAB": self.name, "LAB_NET": self.net, "TOPOLOGY": self.topology, "PYTHONUNBUFFERED": "1"}

    def run(self, *command: str, seconds: int = 1500) -> subprocess.CompletedProcess[str]:
        """Run a command of the project in this lab's environment. Returns its status and output."""
        return subprocess.run(
            command,
            cwd=REPO,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "lab", *arguments)

    def pyinfra(self, *arguments: str, inventory: str = "") -> subprocess.CompletedProcess[str]:
        pyinfra = str(Path(sys.executable).parent / "pyinfra")
        return self.run(pyinfra, "-y", inventory or self.inventory, "deploy.py", *arguments)

    def deploy(self, *arguments: str, inventory: str = "") -> dict[str, Any]:
        """Deploy, and return pyinfra's JSON results. If the run fails, the test fails and shows the run's output."""
        done = self.pyinfra("--json", *arguments, inventory=inventory)
        # If the test fails, pytest shows this output.
        print(done.stderr)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        results: dict[str, Any] = json.loads(done.stdout)["results"]
        return results

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        done = self.run("lab/ssh", host, command, seconds=600)
        assert not check or done.returncode == 0, f"{host}: {command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def beside() -> list[str]:
    """Options for a lab that has another one beside it, which takes part of the processor."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return []
    available = re.search(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    # Of two labs at once, each writes up to 4 GB, and its programs need 3 GB.
    enough = available is not None and int(available[1]) > 14 * 1024**2
    return ["--one-core", *(["--in-memory"] if enough else [])]


def bring_up(topology: str, profile: str = FRESH) -> TestLab:
    hosts = TOPOLOGIES[topology]
    lab = TestLab(topology, hosts, "81", profile)
    # A lab of this name may be left from an interrupted test run of this checkout.
    lab.lab("down")
    done = lab.lab("up", "--net", "free", "--profile", profile, *beside())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return replace(lab, net=str(current_lab(lab.name).net))


class Labs:
    """The labs of `single` and `split` that this process has brought up, which many files of tests share."""

    def __init__(self) -> None:
        self._up: dict[str, TestLab] = {}

    def get(self, topology: str) -> TestLab:
        """The lab of this topology. The first time, it is brought up, and nothing is deployed in it."""
        if topology not in self._up:
            self._up[topology] = bring_up(topology)
        return self._up[topology]

    def down(self) -> None:
        while self._up:
            self._up.popitem()[1].lab("down")


LABS: pytest.StashKey[Labs] = pytest.StashKey()


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    found = request.config.stash[LABS] = Labs()
    yield found
    found.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Side by side, take a group's labs down after its last test: their services take time from the tests that are
    left. One process alone may need them again in a later file."""
    try:
        yield
    finally:
        beside = "PYTEST_XDIST_WORKER" in os.environ
        ends = nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid)
        if beside and ends and LABS in item.config.stash:
            item.config.stash[LABS].down()


@pytest.fixture(scope="module")
def single(labs: Labs) -> TestLab:
    """The lab of topology `single`. tests/lab/test_bare.py runs first, so for it nothing is deployed yet."""
    return labs.get("single")


@pytest.fixture(scope="module")
def split(labs: Labs) -> TestLab:
    """The lab of topology `split`."""
    return labs.get("split")
