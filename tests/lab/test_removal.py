"""A removal leaves a host as it was before the first deployment, also when it is cut off, and first says what goes.

The hosts are furnished with other people's packet filters and packages, and recorded before the house comes.
`make removal`; not a part of `make test`, since it needs deployments of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.access import leader
from plan.firewall.rules import TRIED
from tasks.base import GATEWAY_PACKAGES, PACKAGES
from tests.lab import neighbours
from tests.lab.conftest import TestLab
from tests.lab.inventories import GROUPS, write_inventory
from tests.lab.objects import Objects, brought, counted, differences, recorded, within
from tests.lab.test_lockout import on_laptop, wait_for

#: What stays of a house whose data is kept, and the accounts whose it is.
KEPT = {
    "/var/lib/headscale",
    "/var/lib/ollama/models",
    "/var/lib/openclaw/state",
    "/var/lib/private-ai/ca",
    "/var/lib/private-ai/devices.json",
    "/var/lib/private-ai/claimed",
}
KEPT_ACCOUNTS = ("headscale", "ollama", "openclaw")
#: Steps of the removal of a house at which runs are cut off, each going on from where the last one was.
POINTS = ((2, "cut"), (3, "after"), (4, "during"), (5, "after"), (3, "cut"), (5, "during"))
HEALTH_HOOK = "/etc/private-ai/health-notify"


@dataclass
class House:
    """A lab whose hosts were recorded before the house came, and when it was there."""

    lab: TestLab
    inventory: str
    before: dict[str, Objects]
    deployed: dict[str, Objects] = field(default_factory=dict)

    def remove(self, *data: str, dry: bool = False, good: bool = True) -> str:
        """What a removal says; it has the right status."""
        given = [word for each in data for word in ("--data", each)]
        how = ("--dry",) if dry else ("-y",)
        program = str(Path(sys.executable).parent / "pyinfra")
        done = self.lab.run(program, *how, self.inventory, "playbooks/remove.py", *given)
        assert (done.returncode == 0) is good, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stderr

    def changed(self, host: str) -> list[str]:
        """What is not as it was deployed, without what a house that is in use writes by itself, and without the routes
        of the VPN, which follow its nodes."""
        found = differences(self.deployed[host], recorded(self.lab, host))
        left_out = ("/var/lib/", "/tmp/", "/dev/", "shared: ")
        return [each for each in found if not each.startswith(left_out) and "dev tailscale0 table 52" not in each]

    def brought(self, host: str) -> list[str]:
        """Paths of the packages that were installed since the host was recorded."""
        return brought(self.lab, host, self.before[host])


def named(said: str) -> list[str]:
    """The paths that a removal says will go."""
    going = re.split(r"^ +\w+: stays$", said, flags=re.MULTILINE)
    lines = [part.rpartition(": goes\n")[2] for part in going if ": goes\n" in part]
    return re.findall(r"(?<![\w.])(/[^\s,]+)", "\n".join(lines))


def untold(vanished: Collection[str], dry: str) -> list[str]:
    """The paths that have gone and that a removal has not named. A link by which a unit starts is named with the unit,
    and systemctl takes its folder away when it is empty. A link of an authority's digest is named with its certificate;
    tailscaled itself puts back the file of name servers."""
    paths, units = named(dry), re.findall(r"^ +unit (\S+)$", dry, re.MULTILINE)
    implied = [rf"/etc/systemd/system/[^/]+[.]wants(/{re.escape(unit)})?" for unit in units]
    implied += [r"/etc/ssl/certs/[0-9a-f]{8}[.]\d+", re.escape("/etc/resolv.pre-tailscale-backup.conf")]
    return [
        path
        for path in vanished
        if not any(within(path, each) for each in paths) and not re.fullmatch("|".join(implied), path)
    ]


def begin(lab: TestLab, folder: Path) -> House:
    """A bare lab with neighbours, and on servers all packages that they need; then the deployed house."""
    for host in lab.hosts:
        own = (*PACKAGES, *GATEWAY_PACKAGES) if host != "laptop" else ("nftables",)
        lab.ssh(host, neighbours.install(*own))
    neighbours.furnish(lab)
    file = write_inventory(folder, GROUPS[lab.topology], {})
    house = House(lab, file, {host: recorded(lab, host) for host in lab.hosts})
    lab.deploy(inventory=file)
    house.deployed = {host: recorded(lab, host) for host in lab.hosts}
    return house


@pytest.fixture(scope="module")
def house(single: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A deployed house of topology `single`."""
    yield begin(single, tmp_path_factory.mktemp("removal"))


def test_wrong_requests_are_refused_and_change_nothing(house: House) -> None:
    for data, words in (
        (("everything=true",), "typed in full"),
        (("everything=home",), "a host other than the coordinator"),
        (("role=gateway", "on=home"), "a role that the inventory does not give this host any more"),
        (("dead=laptop",), "a host that does not answer over SSH; this one does"),
        (("dead=nobody",), "a host of the inventory or a node of the VPN"),
        ((), "what to remove"),
    ):
        said = " ".join(house.remove(*data, good=False).split())
        assert words in said and "nothing was changed" in said and "Traceback" not in said, said
    for host in house.lab.hosts:
        assert not house.changed(host)


def test_a_list_is_made_and_nothing_changed(house: House) -> None:
    for name in ("laptop", "house"):
        said = house.remove(f"everything={name}", dry=True)
        assert "table inet private_ai" in said and "opens for everybody" in said
    for host in house.lab.hosts:
        assert not house.changed(host)


def test_a_client_goes_and_is_as_it_was(house: House) -> None:
    lab = house.lab
    lab.ssh("laptop", f"printf '#!/bin/sh\\n' > {HEALTH_HOOK}; chmod +x {HEALTH_HOOK}")
    dry = house.remove("everything=laptop", dry=True)
    said = house.remove("everything=laptop")
    assert re.search(rf"{HEALTH_HOOK} \(.*\): it is not the deployment's", said)
    after = recorded(lab, "laptop")
    lab.ssh("laptop", f"rm -r {Path(HEALTH_HOOK).parent}")
    packages = house.brought("laptop")
    for now in (house.deployed["laptop"], after):
        print("laptop: new objects, changed ones of others:", counted(house.before["laptop"], now, packages))
    wrong = differences(house.before["laptop"], after, [HEALTH_HOOK], packages)
    assert not wrong, "\n".join(wrong)
    vanished = house.deployed["laptop"].files.keys() - after.files.keys()
    assert vanished and untold(vanished, dry) == []
    nodes = json.loads(lab.ssh("home", "headscale nodes list -o json"))
    assert [node["name"] for node in nodes] == ["home"]
    # The packages that it got are named, and the server has none that it did not have before.
    assert "apt-get remove --autoremove" in said and "curl" in said
    assert "nothing of the house is there" in house.remove("everything=laptop")
    assert not house.changed("home")


def interrupted(house: House, step: int, how: str, *data: str) -> subprocess.CompletedProcess[str]:
    given = [word for each in data for word in ("--data", each)]
    command = (sys.executable, "-m", "lab.interrupt", str(step), how, "-y", house.inventory, "playbooks/remove.py")
    return house.lab.run(*command, *given)


def test_a_house_goes_though_its_removal_is_cut_off_and_its_data_stays(house: House) -> None:
    lab = house.lab
    lab.deploy(inventory=house.inventory)
    dry = house.remove("everything=house", dry=True)
    cut = []
    for step, how in POINTS:
        done = interrupted(house, step, how, "everything=house")
        assert done.returncode in (0, -9), done.stdout[-2000:] + done.stderr[-5000:]
        cut += re.findall(r"^\[interrupted\] (.+) #", done.stderr, re.MULTILINE)
    assert len(cut) >= 4, cut
    house.remove("everything=house")
    after = {host: recorded(lab, host) for host in lab.hosts}
    assert not differences(house.before["laptop"], after["laptop"], (), house.brought("laptop"))
    wrong = differences(house.before["home"], after["home"], KEPT, (), KEPT_ACCOUNTS)
    assert not wrong, "\n".join(wrong)
    assert untold(house.deployed["home"].files.keys() - after["home"].files.keys(), dry) == []
    again = house.remove("everything=house")
    assert "laptop: nothing of the house is there" in again and "home: nothing goes" in again


def test_what_was_kept_is_taken_again_by_a_deployment_and_goes_when_somebody_says_so(house: House) -> None:
    lab = house.lab
    lab.deploy(inventory=house.inventory)
    program = str(Path(sys.executable).parent / "pyinfra")
    chat = lab.run(program, "-y", house.inventory, "playbooks/chat.py", "--data", "message=Hi")
    assert chat.returncode == 0, chat.stderr[-3000:]
    assert lab.deploy(inventory=house.inventory)["totals"]["success"] == 0
    without_a_new_connection(house)
    house.remove("everything=house", "data=delete")
    for host in lab.hosts:
        after, packages = recorded(lab, host), house.brought(host)
        for now in (house.deployed[host], after):
            print(f"{host}: new objects, changed ones of others:", counted(house.before[host], now, packages))
        wrong = differences(house.before[host], after, (), packages)
        assert not wrong, f"{host}:\n" + "\n".join(wrong)
    assert house.remove("everything=house").count("nothing of the house is there") == 2


def without_a_new_connection(house: House) -> None:
    """The laptop's rules return when no new SSH connection confirms that they may go."""
    before = table(house.lab)
    assert "dport 22 accept" in before
    # As soon as the table is to be tried without, sshd takes no new connection; those that are open go on.
    gone = f"until test -e {TRIED}; do sleep 0.02; done; systemctl stop ssh.socket ssh"
    house.lab.ssh("laptop", f"systemd-run --quiet --collect --unit=gone sh -c '{gone}'")
    try:
        said = house.remove("everything=laptop", good=False)
        assert "not confirmed by a new SSH connection" in said
        wait_for(lambda: table(house.lab) == before, 60, "the rules did not return")
    finally:
        on_laptop(house.lab, "systemctl", "start", "ssh", all_of_it=True)


def table(lab: TestLab) -> str:
    """The house's table on the laptop, "" for none, seen from outside of it."""
    return on_laptop(lab, "sh", "-c", "nft --stateless list table inet private_ai 2>/dev/null || :")


@pytest.fixture(scope="module")
def parted(split: TestLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of topology `split` in which `brain` was a gateway as well."""
    groups = {**GROUPS["split"], "gateway": ["gate", "brain"]}
    folder = tmp_path_factory.mktemp("parted")
    own = {"gate": {"openclaw_users": ["people"]}, "brain": {"openclaw_users": ["anna"]}}
    wide = write_inventory(folder, groups, {"headscale_users": ["people", "anna"]}, own)
    split.deploy(inventory=wide)
    (folder / "narrow").mkdir()
    narrow = write_inventory(folder / "narrow", GROUPS["split"], {"headscale_users": ["people", "anna"]})
    yield House(split, narrow, {}, {host: recorded(split, host) for host in split.hosts})


def test_a_role_that_a_host_no_longer_has_is_told_and_goes(parted: House, tmp_path: Path) -> None:
    lab = parted.lab
    done = lab.pyinfra(inventory=parted.inventory)
    assert done.returncode == 0, done.stderr[-4000:]
    command = "playbooks/remove.py --data role=gateway --data on=brain"
    assert command in " ".join(done.stderr.split())
    verify = (
        sys.executable,
        "-m",
        "pytest",
        "tests/verify",
        "--inventory",
        parted.inventory,
        "--reports",
        str(tmp_path),
    )
    assert lab.run(*verify, "-k", "test_roles").returncode == 1
    failed = json.loads((tmp_path / "verification.json").read_text())["checks"]
    assert [each["id"] for each in failed if each["status"] == "fail"] == ["host.roles[brain]"]
    said = parted.remove("role=gateway", "on=brain", "data=delete")
    assert "image localhost/openclaw:" in said and "account openclaw" in said
    left = lab.ssh(
        "brain",
        "getent passwd openclaw; ls -d /etc/openclaw /var/lib/openclaw /etc/systemd/user/openclaw* "
        "/etc/containers/systemd/users/* 2>/dev/null; grep openclaw /etc/subuid /etc/subgid "
        "/var/lib/private-ai/claimed; ls /var/lib/systemd/linger; ss -Hltn sport = :18789",
        check=False,
    )
    assert left == ""
    done = lab.pyinfra(inventory=parted.inventory)
    assert done.returncode == 0 and command not in " ".join(done.stderr.split())
    done = lab.run(*verify)
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_host_that_is_dead_goes_from_the_vpn_alone(parted: House) -> None:
    lab = parted.lab
    # Its power fails.
    os.kill(leader("laptop", lab.name), signal.SIGKILL)
    wait_for(lambda: lab.run("lab/ssh", "laptop", "true", seconds=60).returncode != 0, 60, "the laptop still answers")
    said = parted.remove("dead=laptop")
    assert "laptop: out of the VPN after" in said
    nodes = json.loads(lab.ssh("hub", "headscale nodes list -o json"))
    assert sorted(node["name"] for node in nodes) == ["brain", "gate", "hub"]
    # Once more: nothing is left of it, and that is no error.
    parted.remove("dead=laptop")
