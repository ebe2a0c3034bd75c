"""Options, hosts and fixtures of the verification.

Run: pytest tests/verify [--inventory FILE] [--only HOST ...] [--reports DIR]. It needs this repository, and SSH to the
hosts. It changes nothing on any host.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
import testinfra.host

from plan.engine.errors import SettingError
from plan.house.house import Member
from plan.verification import FORBIDDEN, open_over_vpn, service_users
from tests.verify.about import about
from tests.verify.inventory import Subject, read_inventory, subject
from tests.verify.ledger import Check, Ledger
from tests.verify.probing import Probing
from tests.verify.recording import ABOUT, Recording, began
from tests.verify.remote import ProbeError

SUBJECT = pytest.StashKey[Subject]()
#: Names of the modules whose checks this run makes.
MODULES = pytest.StashKey[Collection[str]]()
LEDGER = pytest.StashKey[Ledger]()


@dataclass(frozen=True)
class Lan:
    """One address of a host on its local network."""

    member: Member
    address: str

    @property
    def family(self) -> str:
        return "IPv6" if ":" in self.address else "IPv4"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("verification of a house")
    group.addoption(
        "--inventory",
        default=os.environ.get("INVENTORY", "inventory.py"),
        metavar="FILE",
        help="inventory of the house (default: the environment's INVENTORY, else inventory.py)",
    )
    group.addoption(
        "--outside",
        default="",
        metavar="HOST",
        help="try ports from this machine, which is not in the VPN, by its name in SSH (default: this computer)",
    )
    group.addoption("--only", action="append", default=[], metavar="HOST", help="probe this host only; may be repeated")
    group.addoption("--reports", default="reports", metavar="DIR", help="the folder for the report (default: reports)")


@pytest.hookimpl(tryfirst=True)  # before pytest opens its XML file
def pytest_configure(config: pytest.Config) -> None:
    if config.option.help:
        return
    try:
        file = config.getoption("--inventory", "inventory.py")
        only, outside = config.getoption("--only", []), config.getoption("--outside", "")
        config.stash[SUBJECT] = subject(file, read_inventory(file), only, outside)
    except SettingError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[LEDGER] = Ledger()
    # Some checks take seconds, so pytest shows which one runs.
    config.option.verbose = max(config.option.verbose, 1)
    reports = Path(config.getoption("--reports", "reports"))
    config.pluginmanager.register(Recording(config, config.stash[LEDGER], began(config.stash[SUBJECT]), reports))
    if not config.option.xmlpath and not config.option.collectonly:
        config.option.xmlpath = str(reports / "verification.xml")
    # Our summary has all that pytest's own list of failures has, and the next step. --tb=long shows that list too.
    if config.option.tbstyle == "auto":
        config.option.tbstyle, config.option.reportchars = "no", ""


def pytest_report_header(config: pytest.Config) -> list[str]:
    found = config.stash[SUBJECT]
    hosts = ", ".join(f"{member.name} ({' '.join(sorted(member.roles))})" for member in found.house.members)
    lab = f"lab {found.lab.name}" if found.lab else "not a lab"
    return [
        f"house: {found.house.name} from {found.file}, {lab}: {hosts}",
        f"probed: {', '.join(sorted(found.scope))}; from outside the VPN: {found.outside_name}",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = metafunc.config.stash[SUBJECT]
    house = found.house
    lans = [
        (f"{lan.member.name}-{lan.family}", lan)
        for member in house.members
        if member.name in found.scope
        for lan in (Lan(member, address) for address in member.addresses)
    ]
    pairs = [
        (f"{source.name}-{other.name}", (source, other))
        for source in house.members
        for other in found.asked
        if source != other and source.name in found.scope
    ]
    users = [
        (f"{member.name}-{user}", (member, user))
        for member in house.members
        if member.name in found.scope
        for user in service_users(house, member)
    ]
    values: dict[str, Sequence[tuple[str, object]]] = {
        "lan": lans,
        "coordinator_lan": [(label, lan) for label, lan in lans if lan.member == house.coordinator],
        "gateway_group": [
            (f"{gateway.name}-{group}", (gateway, group))
            for gateway in house.gateways
            if gateway.name in found.scope
            for group in FORBIDDEN
        ],
        "server": [
            (f"{member.name}-{service}", (member, service))
            for service, members in (("headscale", (house.coordinator,)), ("gateway", house.gateways))
            for member in members
            if member.name in found.scope
        ],
        "backed_up": [
            (member.name, member)
            for member in house.members
            if member.name in found.scope and member.roles & {"coordinator", "gateway"}
        ],
        "pair": pairs,
        "service_user": users,
        "granted_pair": [(label, pair) for label, pair in pairs if open_over_vpn(house, *pair)],
    }
    roles = {"member": "", "client": "clients", "coordinator": "coordinator", "gateway": "gateway"}
    for name, role in {**roles, "model_host": "model_hosts"}.items():
        members = house.with_role(role) if role else house.members
        values[name] = [(member.name, member) for member in members if member.name in found.scope]
    for name in values.keys() & set(metafunc.fixturenames):
        if values[name]:
            metafunc.parametrize(name, [pytest.param(value, id=label) for label, value in values[name]])
        else:
            reason = f"no {name} among the probed hosts: {', '.join(sorted(found.scope))}"
            metafunc.parametrize(name, [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))])


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[MODULES] = frozenset(item.path.stem.removeprefix("test_") for item in session.items)


@pytest.fixture(scope="session")
def probing(pytestconfig: pytest.Config) -> Iterator[Probing]:
    """Asks the hosts each question once."""
    made = Probing(pytestconfig.stash[SUBJECT])
    pytestconfig.stash[ABOUT] = lambda: about(made)
    made.start(pytestconfig.stash[MODULES])
    yield made
    made.close()


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """Records a check, and fails the test if the check does not hold."""
    return request.config.stash[LEDGER].check(request)


@pytest.fixture
def machine(member: Member, probing: Probing) -> testinfra.host.Host:
    """A host as testinfra shows it. Its commands use the same connection as all others."""
    at = probing.subject.places[member.name]
    spec = f"ssh://[{at.address}]" if ":" in at.address else f"ssh://{at.address}"
    host = testinfra.get_host(spec)

    def run(command: str, *arguments: str, **_: object) -> object:
        script = host.backend.quote(command, *arguments)
        said = probing.remote.run(member.name, script)
        return host.backend.result(said.status, script.encode(), said.stdout.encode(), said.stderr.encode())

    host.backend.run = run
    return host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """If a probe could not be made, the test fails with the probe's own message instead of a traceback."""
    try:
        return (yield)
    except ProbeError as error:
        pytest.fail(f"observed: {error}", pytrace=False)
