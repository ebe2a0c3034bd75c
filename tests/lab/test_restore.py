"""A house comes back from its backup after its coordinator's disk was lost, and everything else than that is refused.

The house is that of test_house.py with a key for backups. `make restores` loses more: tests/lab/test_restores.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from plan.backup.places import STAGE
from plan.backup.restoring import RESTORED
from tests.lab.conftest import TestLab
from tests.lab.inventories import GROUPS
from tests.lab.restoring import Backed, refused

SINGLE = {group: list(hosts) for group, hosts in GROUPS["single"].items()}


@pytest.fixture(scope="module")
def house(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    """A deployed house with one backup. Afterwards it is deployed without the key for backups."""
    found = Backed(single, tmp_path_factory.mktemp("restore"), SINGLE)
    found.prepare()
    single.deploy(inventory=found.inventory)
    found.message()
    found.backup()
    yield found
    single.deploy()


def test_a_house_that_is_alive_is_not_restored(house: Backed) -> None:
    before = house.lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale; stat -c %y /var/lib/headscale")
    refused(house.restore(), "house house is 'alive: its control server (")
    refused(house.restore("--data", "role=gateway"), "host home is 'not empty: /var/lib/openclaw/state")
    after = house.lab.ssh("home", "systemctl show -P ExecMainStartTimestamp headscale; stat -c %y /var/lib/headscale")
    assert after == before and house.changes() == set()


def test_a_lost_coordinator_is_back_and_nobody_joins_again(house: Backed, tmp_path: Path) -> None:
    lab, before = house.lab, house.nodes("home")
    said = house.events("home")
    token = lab.ssh("home", "sha256sum </etc/openclaw/token")
    (backup,) = house.backups.iterdir()
    house.lose("home")

    damaged = Path(shutil.copytree(backup, tmp_path / "damaged"))
    (damaged / "host-home.age").write_bytes((backup / "host-home.age").read_bytes()[:-1000])
    refused(house.restore(source=damaged), "host-home.age is cut off")
    dry = house.restore("--dry")
    assert dry.returncode == 0 and "laptop trusts this authority, and hears no control server" in dry.stderr, dry.stderr
    assert lab.ssh("home", f"ls -d {RESTORED} /var/lib/headscale /var/lib/openclaw 2>/dev/null || true") == ""

    house.back()
    print({step: f"{seconds:.1f} s" for step, seconds in house.took.items()})
    after = house.nodes("home")
    assert after.keys() == before.keys()
    joined = [name for name in before if after[name] != before[name]]
    assert joined == ["home"], joined
    assert house.events("home") >= said and lab.ssh("home", "sha256sum </etc/openclaw/token") == token
    assert lab.ssh("home", f"ls -d {RESTORED} {STAGE} 2>/dev/null || true") == ""
    assert house.changes() == set()
    shown = house.playbook("status")
    assert shown.returncode == 0 and "0 days old" in shown.stdout, shown.stdout
