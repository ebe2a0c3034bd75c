"""A removal takes all that a deployment has put on a host, keeps what people may want, touches nothing of others."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import tasks.removal
from facts.ca import CaCertificate
from facts.removal import RemovalFound, parse_found
from operations.engine.component import install_block, install_packages
from operations.engine.run import begin_run
from operations.removal import _closed, ended, gone, stopped, try_without, unheld
from plan.backup import places, restoring
from plan.base.profile import Listener
from plan.devices.vpn_nodes import Minted, node_of
from plan.engine.claims import ACCOUNTS, CLAIMED, CLAIMS, UNITS, claim_file
from plan.engine.errors import SettingError
from plan.engine.want import Block
from plan.house.host_data import hides_the_address
from plan.house.house import House, Member
from plan.house.settings import PLAYBOOK_DATA
from plan.removal.belongings import EMPTY_AT_LAST, LAST, PARTS, STAMPS, claims_left_over, left_over, packages_of
from plan.removal.leaving import QUADLETS, Emptied, Found, Leaving, authority_files, leaving, quadlet
from plan.removal.request import Request, request
from plan.removal.told import lines, size
from plan.removal.vpn_node import host_leaving, known_names
from plan.removal.wrong_host import wrong_host
from tasks.engine.house import WrongInput
from tests.unit.fakes import PROFILE, Fake, context, deployed
from tests.unit.houses import pair, single, split
from tests.unit.test_backup import AGE

ALL = frozenset({"all", "coordinator", "gateway", "model_hosts"})
#: OpenClaw's is the one that the fakes' hosts have.
NUMBERS = {"headscale": 989, "ollama": 990, "ollama-vpn": 991, "openclaw": 992}
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def full(house: House, member: Member, **other: Any) -> Found:
    """A host that has all that its roles call for."""
    found = Found({}, {}, {}, {}, {}, {}, (), frozenset(), False, True, (), "")
    paths: dict[str, int] = {}
    links: dict[str, str] = {}
    entries: dict[str, list[str]] = {}
    parts = [part for part in PARTS if part.role == "all" or part.role in member.roles]
    for part in parts:
        paths |= dict.fromkeys((*part.all_files, *part.folders, *(data.path for data in part.data)), 10)
        links |= {path: f"/opt/private-ai/x/{path}" for path in part.files if path.startswith("/usr/local/bin")}
        if part.name == "Tailscale":
            links["/usr/local/sbin/tailscaled"] = "/opt/private-ai/x/tailscaled"
        entries.setdefault("/opt/private-ai", []).extend(
            f"/opt/private-ai/{name}-1.2.3-{'a' * 12}" for name in part.programs
        )
    accounts = {name: NUMBERS[name] for name in ACCOUNTS if ACCOUNTS[name][0] in member.roles}
    if "openclaw" in accounts:
        paths[quadlet(accounts["openclaw"])] = 10
    paths |= dict.fromkeys(authority_files(house), 10)
    for path in sorted(paths):
        above = path.rpartition("/")[0]
        if above in {*EMPTY_AT_LAST, *(folder for part in parts for folder in part.folders)}:
            entries.setdefault(above, []).append(path)
    return replace(
        found,
        paths=paths,
        links=links,
        entries={folder: tuple(each) for folder, each in entries.items()},
        accounts=accounts,
        units={unit: "active" for part in parts for unit in part.units},
        claimed=frozenset(claim_file(member.roles, ()).splitlines()),
        names=True,
        authorities=(f"private-ai-{house.name}",),
        **other,
    )


def plan(house: House, name: str, roles: Iterable[str] = ALL, delete: bool = False, **other: Any) -> Leaving:
    member = house.member(name)
    return leaving(house, member, replace(full(house, member), **other), PROFILE, frozenset(roles), delete)


def goes(found: Leaving) -> set[str]:
    return {path for part in found.parts for path in part.paths}


def covered(path: str, paths: Iterable[str]) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in paths)


BACKED_UP = {"backup_recipients": [AGE], "backup_every": "1 day"}


@pytest.mark.parametrize(
    "house", [single(), single(**BACKED_UP), split(**BACKED_UP), pair()], ids=["single", "backed up", "split", "pair"]
)
def test_all_that_a_deployment_wants_on_a_host_goes_with_it(house: House) -> None:
    for name, host in deployed(house).items():
        found = plan(house, name, delete=True)
        there = goes(found)
        for want in host.wants:
            wanted = [each.path for each in want.files]
            wanted += [each.path for each in want.directories] + [each.path for each in want.secrets]
            wanted += [link for program in want.programs for link, _ in program.links]
            wanted += [f"{STAMPS}/{unit.name}" for unit in want.units if not unit.stopped]
            # Folders that others use, too.
            shared = {*EMPTY_AT_LAST, QUADLETS, f"{QUADLETS}/{NUMBERS['openclaw']}"}
            assert not [path for path in wanted if path not in shared and not covered(path, there)]
            programs = {program.name for program in want.programs}
            assert programs <= {each for part in found.parts for each in part.part.programs}
            accounts = {account.name for account in want.accounts}
            assert accounts <= {each for part in found.parts for each in part.accounts}
            units = {unit.name for unit in want.units if not unit.stopped and not unit.user}
            assert units <= {each for part in found.parts for each in part.units}
            assert {block.path for block in want.blocks} <= {"/etc/hosts"}
        assert found.names and found.table and not found.stays and not found.note


def test_what_systemd_notes_of_a_timer_that_makes_up_for_lost_time_goes_with_it() -> None:
    units = {name for part in PARTS for name in part.units}
    files = {path for part in PARTS for path in part.all_files}
    lasting = [
        file.name.removesuffix(".j2")
        for file in (Path(__file__).parents[2] / "templates").glob("*/*.timer.j2")
        if "Persistent=yes" in file.read_text()
    ]
    assert lasting and set(lasting) <= units
    assert all(f"/var/lib/systemd/timers/stamp-{timer}" in files for timer in lasting)


def test_whatever_a_backup_or_a_restore_names_in_the_houses_folders_goes_or_is_data() -> None:
    paths = {path for part in PARTS for path in (*part.all_files, *part.folders, *(data.path for data in part.data))}
    named = {value for module in (places, restoring) for value in vars(module).values() if isinstance(value, str)}
    own = {each for each in named if each.startswith((*(f"{folder}/" for folder in EMPTY_AT_LAST), "/usr/local/"))}
    assert len(own) > 5 and not [each for each in own if not covered(each, paths)]


def test_every_claim_and_account_belongs_to_a_part() -> None:
    for claim in CLAIMS:
        part = next(part for part in PARTS if part.claim == claim.name)
        assert part.role == claim.role
        assert set(claim.places) <= {*part.all_files, *part.folders}
    assert {name for part in PARTS for name in part.accounts} == set(ACCOUNTS)
    for part in PARTS:
        for name in part.accounts:
            assert ACCOUNTS[name][0] == part.role
    assert LAST.name == "Firewall" and CLAIMED in LAST.files


def test_what_people_may_want_stays_with_the_accounts_whose_it_is_and_is_still_the_houses() -> None:
    found = plan(single(), "home")
    stays = {each.path: each.why for each in found.stays}
    kept = {
        "/var/lib/openclaw/state",
        "/var/lib/ollama/models",
        "/var/lib/headscale",
        "/var/lib/private-ai/ca",
        "/var/lib/private-ai/devices.json",
        "/var/lib/private-ai/backups",
    }
    assert set(stays) == {*kept, CLAIMED}
    assert not any(covered(path, goes(found)) for path in stays)
    assert {name for part in found.parts for name in part.idle} == {"openclaw", "ollama", "headscale"}
    assert {name for part in found.parts for name in part.accounts} == {"ollama-vpn"}
    # A later deployment takes the places for its own again.
    assert set(found.note) == {"/var/lib/openclaw", "/var/lib/ollama", "/var/lib/headscale"}
    assert not claims_left_over((), found.note)
    for claim in CLAIMS:
        assert not claim.found(found.note, found.note)
    said = "\n".join(lines(found))
    for path in kept:
        assert f"{path} (10 bytes): " in said
    assert "account openclaw, whose files stay" in said


def test_a_second_removal_finds_nothing_and_one_that_deletes_takes_what_was_kept() -> None:
    house = single()
    member = house.member("home")
    first = plan(house, "home")
    paths = {path: 10 for path in full(house, member).paths if not covered(path, goes(first))}
    entries = {
        "/var/lib/private-ai": tuple(path for path in paths if path.startswith("/var/lib/private-ai/")),
        "/var/lib/openclaw": ("/var/lib/openclaw/state",),
        "/var/lib/ollama": ("/var/lib/ollama/models",),
    }
    left = replace(
        full(house, member),
        paths=paths,
        links={},
        entries=entries,
        units={},
        accounts=dict.fromkeys(("openclaw", "ollama", "headscale"), 1),
        claimed=frozenset(first.note),
        names=False,
        table=False,
    )
    again = leaving(house, member, left, PROFILE, ALL, delete=False)
    assert not again and again.note == first.note
    last = leaving(house, member, left, PROFILE, ALL, delete=True)
    assert last and not last.note and not last.stays
    assert {name for part in last.parts for name in part.accounts} == {"openclaw", "ollama", "headscale"}
    assert {"/var/lib/openclaw", "/var/lib/ollama", "/var/lib/headscale", CLAIMED} <= goes(last)


def test_a_role_goes_alone_and_its_places_are_given_back() -> None:
    house = split()
    # Once it was a model host as well.
    gate = replace(house.member("gate"), roles=frozenset({"gateway", "model_hosts"}))
    found = leaving(house, gate, full(house, gate), PROFILE, {"model_hosts"}, delete=False)
    assert [part.part.name for part in found.parts] == ["Ollama"]
    assert "/etc/systemd/system/ollama.service" in goes(found) and f"/opt/private-ai/ollama-1.2.3-{'a' * 12}" in goes(
        found
    )
    assert not any("tailscale" in path or "openclaw" in path for path in goes(found))
    assert {each.path for each in found.stays} == {"/var/lib/ollama/models"}
    assert found.forgets and not found.table and not found.names and not found.packages
    assert "/var/lib/ollama" in found.note and "/usr/local/bin/ollama" not in found.note
    assert set(claim_file({"gateway"}, ()).splitlines()) <= set(found.note)
    assert not claims_left_over({"gateway"}, found.note)


def test_nothing_of_others_is_touched() -> None:
    house = single()
    member = house.member("home")
    before = full(house, member)
    mine = {
        "/etc/private-ai/health-notify": 5,
        "/opt/private-ai/my-program": 5,
        "/opt/private-ai/ollama-of-mine": 5,
        "/var/lib/private-ai/notes": 5,
    }
    entries = {
        folder: (*before.entries[folder], *(path for path in mine if path.startswith(folder)))
        for folder in EMPTY_AT_LAST
    }
    links = {path: target for path, target in before.links.items() if path != "/usr/local/bin/ollama"}
    found = replace(
        before,
        paths={**before.paths, **mine},
        entries={**before.entries, **entries},
        links=links,
        claimed=before.claimed - {"/etc/headscale"},
    )
    gone_too = leaving(house, member, found, PROFILE, ALL, delete=True)
    stays = {each.path: each.why for each in gone_too.stays}
    assert set(stays) == {*mine, "/usr/local/bin/ollama", "/etc/headscale", CLAIMED}
    assert stays["/usr/local/bin/ollama"] == "somebody has put another program there"
    assert stays["/etc/headscale"] == "it was there before the house"
    assert not any(covered(path, goes(gone_too)) for path in stays)
    # Of a program that nobody has claimed nothing is looked at.
    bare = replace(before, claimed=frozenset(place for place in before.claimed if "ollama" not in place))
    assert not any("/ollama" in path for path in goes(leaving(house, member, bare, PROFILE, ALL, delete=True)))


def test_what_is_mounted_and_what_a_link_leads_to_is_not_touched() -> None:
    house, name = single(), "home"
    member = house.member(name)
    before = full(house, member)
    disk = replace(before, mounts={"/var/lib/ollama": ("/var/lib/ollama",)})
    found = leaving(house, member, disk, PROFILE, ALL, delete=True)
    assert {each.path: each.why for each in found.stays}["/var/lib/ollama"].startswith("a disk is mounted there")
    assert not covered("/var/lib/ollama", goes(found)) and "/var/lib/ollama" in found.note
    assert "ollama" in {each for part in found.parts for each in part.idle}
    remote = "/var/lib/openclaw/share/of mine"
    inside = replace(
        before,
        mounts={"/var/lib/openclaw": (remote,)},
        entries={**before.entries, "/var/lib/openclaw": ("/var/lib/openclaw/share", "/var/lib/openclaw/state")},
    )
    found = leaving(house, member, inside, PROFILE, ALL, delete=True)
    [emptied] = [each for part in found.parts for each in part.emptied]
    assert (emptied.path, emptied.kept) == ("/var/lib/openclaw", ("share",))
    linked = replace(before, links={**before.links, "/var/lib/openclaw": "/srv/openclaw"})
    found = leaving(house, member, linked, PROFILE, ALL, delete=True)
    assert {each.path: each.why for each in found.stays}["/var/lib/openclaw"].startswith("a link to /srv/openclaw")


def script_runs(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script, *arguments], capture_output=True, text=True, check=False)


def test_the_script_removes_what_it_names_and_follows_no_link(tmp_path: Path) -> None:
    folder, other = tmp_path / "ours", tmp_path / "theirs"
    for each in (folder / "state", folder / "rest", other):
        each.mkdir(parents=True)
        (each / "file").write_text("x")
    (folder / "rest/link").symlink_to(other)
    (folder / "link").symlink_to(other)
    found = plan(single(), "home")
    ollama = next(part for part in found.parts if part.part.name == "Authority")
    part = replace(ollama, paths=(), emptied=(Emptied(str(folder), ("state",)),))
    done = script_runs(gone(part, found))
    assert done.returncode == 0, done.stderr
    assert sorted(each.name for each in folder.iterdir()) == ["state"] and (other / "file").exists()
    done = script_runs(gone(replace(part, paths=(str(folder),), emptied=()), found))
    assert done.returncode == 0 and not folder.exists() and (other / "file").exists()
    # Again, as after a run that was cut off.
    assert script_runs(gone(replace(part, paths=(str(folder),), emptied=()), found)).returncode == 0


#: systemd, as it answers for a unit whose file was removed while it was loaded. It knows the unit until it is told
#: to look again, and has nothing to disable.
FORGETFUL = """#!/bin/sh
for unit; do :; done
case "$*" in
    show*) echo loaded ;;
    disable*) [ -e "{units}/$unit" ] || {{ echo "Failed to disable unit: Unit $unit does not exist" >&2; exit 1; }} ;;
esac
echo "$*" >>{told}
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_unit_whose_file_has_gone_before_it_is_stopped_all_the_same(tmp_path: Path, there: bool) -> None:
    (stub := tmp_path / "systemctl").write_text(FORGETFUL.format(units=tmp_path, told=tmp_path / "told"))
    stub.chmod(0o755)
    found = plan(single(), "laptop")
    part = next(part for part in found.parts if part.part.name == "Tailscale")
    if there:
        (tmp_path / "tailscaled.service").write_text("[Service]")
    for script in (stopped(part), "\n".join(["set -e", "nft() { :; }", *_closed()])):
        done = script_runs(f"PATH={tmp_path}:$PATH\n{script.replace(UNITS, str(tmp_path))}")
        assert done.returncode == 0, done.stderr
    told = (tmp_path / "told").read_text()
    assert "stop tailscaled.service" in told and "stop private-ai-firewall.service" in told
    assert ("disable --quiet tailscaled.service" in told) is there


def test_the_note_of_a_run_that_was_cut_off_goes_too() -> None:
    host = Fake("home", {})
    with context(host, {"home": host}):
        host.do(unheld, last_run="")
        assert host.commands == []
        host.do(unheld, last_run="anna@notebook from 192.168.1.2 since 2026-11-28 13:20:20 UTC\n")
    assert host.commands == ["rm -rf /run/private-ai"]


def test_scripts_are_understood_by_the_shell() -> None:
    names = Block("/etc/hosts", "names", ("10.0.0.1 headscale.house.internal",))
    for name in ("home", "laptop"):
        found = plan(single(), name)
        for part in found.parts:
            for script in (stopped(part), gone(part, found, names, ("/a b", "/c"))):
                assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0, script
    for script in (try_without(), ended("openclaw"), install_packages(("curl",))):
        assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0, script


def test_the_houses_lines_leave_a_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    before = "127.0.0.1 localhost\n# mine\n10.0.0.9 nas\n"
    file.write_text(before)
    block = Block(str(file), "names", ("10.0.0.1 headscale.house.internal",))
    for script in (install_block(block), install_block(block, gone=True), install_block(block, gone=True)):
        done = subprocess.run(["sh", "-c", script], input=block.text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert file.read_text() == before


def test_packages_are_noted_before_they_are_installed_and_only_listed() -> None:
    script = install_packages(("curl", "podman"))
    assert script.index("package curl") < script.index("apt-get")
    claimed = {*claim_file({"gateway"}, ("package podman", "package curl")).splitlines()}
    assert packages_of(claimed) == ("curl", "podman")
    found = plan(split(), "gate", claimed=frozenset(claimed), delete=True)
    said = "\n".join(lines(found))
    assert "apt-get remove --autoremove curl podman" in said
    assert not found.note


def test_the_list_names_everything() -> None:
    house = single()
    programs = (
        Listener("tcp", "*", 443, "nginx", "nginx.service"),
        Listener("tcp", "*", 443, "nginx", "nginx.service"),
    )
    own = Listener("tcp", "*", 8443, "headscale", "headscale.service")
    local = Listener("tcp", "127.0.0.1", 25, "master", "")
    profile = replace(PROFILE, listeners=(*programs, own, local))
    member = house.member("home")
    found = leaving(house, member, replace(full(house, member), images=("localhost/openclaw:1",)), profile, ALL, True)
    said = "\n".join(lines(found))
    for path in goes(found):
        assert f"    {path} (" in said, path
    for part in found.parts:
        for unit in part.units:
            assert f"unit {unit}\n" in said
        for account in part.accounts:
            assert f"account {account}, number" in said
    assert found.opens == ("443/tcp (nginx)",) and "opens for everybody: 443/tcp (nginx)." in said
    assert "image localhost/openclaw:1" in said and "table inet private_ai" in said and "/etc/hosts" in said
    assert [size(each) for each in (0, 999, 1500, 2_300_000, 4_100_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "2.3 MB",
        "4.1 GB",
    ]


def test_a_deployment_warns_of_a_role_that_was_left_over() -> None:
    house = split()
    gate = house.member("gate")
    claimed = claim_file({"gateway", "model_hosts"}, ()).splitlines()
    [said] = left_over(gate, claimed, "my inventory.py")
    assert "Ollama is still there" in said
    assert said.endswith("pyinfra 'my inventory.py' playbooks/remove.py --data role=model_hosts --data on=gate")
    assert not left_over(gate, claim_file({"gateway"}, ()).splitlines(), "inventory.py")


def node(number: int, name: str, *addresses: str, key: int = 0) -> Any:
    return node_of(
        {
            "id": number,
            "name": name,
            "given_name": name,
            "ip_addresses": list(addresses),
            "pre_auth_key": {"id": key} if key else None,
        }
    )


def test_the_node_of_a_host_goes_and_no_devices() -> None:
    record = {"anna-phone": Minted("people", (4,), "")}
    nodes = [
        node(1, "gate", "100.64.0.2", key=3),
        node(2, "gate-phone", "100.64.0.3", key=4),
        node(3, "hub", "100.64.0.1"),
    ]
    # A phone that calls itself as the host does.
    nodes.append(node(4, "gate", "100.64.0.9", key=4))
    found = host_leaving("gate", nodes, (), record, (), NOW)
    assert [each.node.id for each in found.remove] == [1] and found.record is None
    assert [each.node.id for each in host_leaving("gate", nodes, (), record, ("100.64.0.1",), NOW).remove] == [3]
    assert not host_leaving("brain", nodes, (), record, (), NOW)
    assert known_names(nodes, record) == ("gate", "hub")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "what to remove is 'nothing'"),
        ({"everything": "laptop", "dead": "laptop"}, "what to remove is 'everything and dead'"),
        ({"everything": "laptop", "data": "yes"}, "--data data is 'yes'"),
        ({"everything": "laptop", "on": "laptop"}, "--data on is 'laptop'; accepted: nothing with everything"),
        ({"everything": "true"}, "--data everything is 'true'"),
        ({"everything": ""}, "--data everything is ''"),
        ({"everything": "LAPTOP"}, "did you mean 'laptop'?"),
        ({"everything": "hub"}, "a host other than the coordinator"),
        ({"everything": "gate"}, "this one alone has the role gateway"),
        ({"role": "clients", "on": "laptop"}, "--data role is 'clients'"),
        ({"role": "gatewey", "on": "laptop"}, "did you mean 'gateway'?"),
        ({"role": "gateway"}, "--data on is None"),
        ({"role": "gateway", "on": "nobody"}, "--data on is 'nobody'"),
        ({"role": "gateway", "on": "gate"}, "a role that the inventory does not give this host any more"),
        ({"dead": "hub"}, "a host other than the coordinator"),
        ({"dead": "laptop", "data": "delete"}, "nothing with dead: nothing is on a host that is gone"),
        ({"dead": "anna-phone"}, "a host; this is a device"),
    ],
)
def test_wrong_requests_are_refused(data: dict[str, str], said: str) -> None:
    house = split(headscale_devices=[{"name": "anna-phone", "owner": "people", "kind": "ios"}])
    with pytest.raises(SettingError, match=re.escape(said)):
        request(data, house)


def test_a_name_that_is_the_houses_and_a_hosts_is_refused() -> None:
    with pytest.raises(SettingError, match="a name that means one thing"):
        request({"everything": "laptop"}, single(house_name="laptop"))


@pytest.mark.parametrize(
    ("data", "wanted", "reached"),
    [
        ({"everything": "laptop"}, Request("host", "laptop"), ("laptop", "hub")),
        ({"everything": "house", "data": "delete"}, Request("house", delete=True), ("brain", "gate", "hub", "laptop")),
        ({"role": "gateway", "on": "hub"}, Request("role", "hub", "gateway"), ("hub",)),
        ({"dead": "gate"}, Request("dead", "gate"), ("hub",)),
        ({"dead": "not-in-the-inventory"}, Request("dead", "not-in-the-inventory"), ("hub",)),
    ],
)
def test_a_request_reaches_the_hosts_that_it_is_about(
    data: dict[str, str], wanted: Request, reached: tuple[str, ...]
) -> None:
    assert request(data, split()) == wanted
    assert wanted.reached(split()) == reached


def test_a_host_of_another_house_and_ssh_through_the_vpn_are_refused() -> None:
    house = split()
    member = house.member("gate")
    found = replace(full(house, member), authority="AAA\n")
    assert not wrong_host(house, member, found, PROFILE, "AAA\n", whole=True)
    [error] = wrong_host(house, member, found, PROFILE, "BBB\n", whole=True)
    assert "a host of another house" in str(error)
    [error] = wrong_host(
        house, member, replace(found, authorities=("private-ai-other",), authority=""), PROFILE, "A", True
    )
    assert "private-ai-other" in str(error)
    # One whose certificate has gone already, in a run that was cut off.
    assert not wrong_host(house, member, replace(found, authorities=(), authority=""), PROFILE, "AAA", whole=True)
    through = replace(PROFILE, ssh_client="100.64.0.9")
    [error] = wrong_host(house, member, found, through, "AAA", whole=True)
    assert "through the VPN" in str(error) and "10.77.0.12" in str(error)
    assert not wrong_host(house, member, found, through, "AAA", whole=False)


def test_an_answer_of_a_host_is_read() -> None:
    found = parse_found(
        [
            "path 4096\t/etc/openclaw",
            "link /usr/local/bin/ollama|/opt/private-ai/ollama-1-aaaaaaaaaaaa/bin/ollama",
            "entry /var/lib/openclaw 77\t/var/lib/openclaw/a b",
            "mount /var/lib/openclaw /var/lib/openclaw/a b/c",
            "unit Id=ollama.service",
            "unit LoadState=loaded",
            "unit ActiveState=active",
            "unit ",
            "unit Id=headscale.service",
            "unit LoadState=not-found",
            "unit ActiveState=inactive",
            "account openclaw:x:992:992::/var/lib/openclaw:/usr/sbin/nologin",
            "image localhost/openclaw:1",
            "claimed /etc/openclaw",
            "claimed package curl",
            "names",
            "table",
            "authority private-ai-house.crt",
            "pem AAA",
        ]
    )
    assert found.paths == {"/etc/openclaw": 4096, "/usr/local/bin/ollama": 0, "/var/lib/openclaw/a b": 77}
    assert found.links["/usr/local/bin/ollama"].startswith("/opt/private-ai/")
    assert found.entries == {"/var/lib/openclaw": ("/var/lib/openclaw/a b",)}
    assert found.mounts == {"/var/lib/openclaw": ("/var/lib/openclaw/a b/c",)}
    assert found.units == {"ollama.service": "active"} and found.accounts == {"openclaw": 992}
    assert found.claimed == {"/etc/openclaw", "package curl"} and found.names and found.table
    assert found.authorities == ("private-ai-house",) and found.authority == "AAA"


def test_a_plan_is_made_with_the_coordinators_own_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    house = split()
    gate = house.member("gate")
    monkeypatch.setattr(tasks.removal, "profile_of", lambda name: PROFILE)
    found = replace(full(house, gate), authority="AAA")
    hosts = {
        "gate": Fake("gate", {RemovalFound: found}),
        "hub": Fake("hub", {CaCertificate: "BBB\n"}),
    }
    with context(hosts["gate"], hosts, executing=False), pytest.raises(WrongInput, match="a host of another house"):
        tasks.removal._planned(house, gate, Request("host", "gate"))
    begin_run()
    hosts["hub"].facts[CaCertificate] = "AAA\n"
    with context(hosts["gate"], hosts, executing=False):
        assert tasks.removal._planned(house, gate, Request("host", "gate")).host == "gate"


def test_no_name_of_a_playbooks_data_is_taken_for_a_hosts_address() -> None:
    # pyinfra adds what is typed to the data of every host, and such a host would be left out of the house.
    assert not [name for name in PLAYBOOK_DATA if hides_the_address({name: "home"})]
