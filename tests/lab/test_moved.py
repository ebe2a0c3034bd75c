"""The coordinator gets another address on the local network. After one run, the house works with the new address."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.state import State, write_whole
from tests.lab.conftest import STAMP, TestLab
from tests.lab.held import inside
from tests.lab.inventories import GROUPS, write_inventory

NETWORK = "/etc/systemd/network/10-lab.network"
#: The operations that change something for a new address of the coordinator: its name on all hosts, the firewall's
#: rules, its own configuration, the addresses to which its renewal may connect, and a restart of tailscaled, so that no
#: connection to the old address stays.
FOLLOWS = {
    "Base | Packages, accounts, names",
    "Firewall | Rules of the access table",
    "Headscale | Configuration, policy, service",
    "Tailscale | Program, service",
    "Health | Program, timer",
    "Renewal | Program, timer",
    STAMP,
}


@pytest.fixture(scope="module")
def house(single: TestLab) -> Iterator[TestLab]:
    """A deployed house. Afterwards its coordinator has its old address again, also if a test has failed."""
    single.deploy()
    file = State.of(single.name).known_hosts
    known = file.read_text()
    [key] = [line.split(" ", 1)[1] for line in known.splitlines() if line.startswith("home,")]
    # As if an administrator had checked that it is the same machine: known_hosts gets its key for the new addresses.
    write_whole(file, f"{known}{','.join(places(single, new=True))} {key}\n")
    yield single
    address(single, old=True, new=False)
    single.deploy()
    write_whole(file, known)


def places(lab: TestLab, new: bool) -> list[str]:
    """The coordinator's old or new IPv4 and IPv6 address."""
    number = 41 if new else 11
    return [f"10.{lab.net}.0.{number}", f"fd4c:4142:{lab.net}::{number}"]


def address(lab: TestLab, old: bool, new: bool) -> None:
    """Give the coordinator its old addresses, the new ones, or both. This does not use SSH, because the change ends the
    SSH connection."""
    wanted = [each for there, which in ((old, False), (new, True)) if there for each in places(lab, which)]
    sections = inside(lab, "home", f"cat {NETWORK}").split("\n\n")
    kept = [each for each in sections if not each.startswith("[Address]")]
    for each in wanted:
        length = 64 if ":" in each else 24
        kept.append(f"[Address]\nAddress={each}/{length}\nDuplicateAddressDetection=none")
    text = "\n\n".join(kept) + "\n"
    there = " && ".join(f'echo "$shown" | grep -qF " {each}/"' for each in wanted)
    inside(
        lab,
        "home",
        f"printf %s {shlex.quote(text)} > {NETWORK}; networkctl reload; "
        "for i in $(seq 100); do shown=$(ip -o addr show dev host0 scope global); "
        f'{there} && test $(echo "$shown" | wc -l) = {len(wanted)} && exit; sleep 0.1; done; exit 1',
    )


def inventory(folder: Path, lab: TestLab, **own: Any) -> str:
    return write_inventory(folder, GROUPS[lab.topology], {}, {"home": own})


def changed(lab: TestLab, inventory: str) -> set[str]:
    return {each["name"] for each in lab.deploy(inventory=inventory)["operations"] if each["success"]}


def answers(lab: TestLab, inventory: str) -> None:
    """Check that a message is answered at once."""
    chat = lab.run(".venv/bin/pyinfra", "-y", inventory, "playbooks/chat.py", "--data", "message=Hello")
    assert chat.returncode == 0 and "answer:" in chat.stderr, chat.stderr[-3000:]


def test_the_house_works_when_the_run_ends_after_its_coordinator_has_moved(house: TestLab, tmp_path: Path) -> None:
    address(house, old=False, new=True)
    file = inventory(tmp_path, house, ssh_hostname=places(house, new=True)[0], lan_addresses=places(house, new=True))
    done = changed(house, file)
    assert {"Base | Packages, accounts, names", "Tailscale | Program, service"} <= done <= FOLLOWS, done
    answers(house, file)
    assert changed(house, file) == set()
    verified = house.run(
        sys.executable, "-m", "pytest", "tests/verify", "--inventory", file, "--reports", str(tmp_path)
    )
    assert verified.returncode == 0, verified.stdout[-8000:] + verified.stderr[-2000:]


def test_lan_addresses_alone_move_it_too(house: TestLab, tmp_path: Path) -> None:
    """The coordinator moves back to its old address. The run itself uses SSH over the new address, which is removed
    after the run."""
    address(house, old=True, new=True)
    over = places(house, new=True)[0]
    file = inventory(tmp_path, house, ssh_hostname=over, lan_addresses=places(house, new=False))
    assert "Tailscale | Program, service" in changed(house, file)
    address(house, old=True, new=False)
    answers(house, house.inventory)
    assert changed(house, house.inventory) == set()
