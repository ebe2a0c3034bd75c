"""Files that cannot be written, systems that lose their files at a restart, and file systems that the house cannot
use."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facts.base import capabilities, writable_folders
from facts.base.profile import SCRIPT
from facts.other_programs import found_places
from plan.base.capabilities import FOLDERS, Disk
from plan.base.writable_folders import ACCOUNT_FILES, Mount, Storage, fleeting
from plan.engine.claims import ACCOUNTS, Login
from tests.unit.test_preflight import ALL_ROLES, GOOD, check
from tests.unit.test_profile import parse, with_section

ROOT = Mount("/", "ext4", frozenset({"rw"}))
SYSTEM = tuple(Login(name, 990, home, "/usr/sbin/nologin") for name, (_, home) in ACCOUNTS.items())


def on(kind: str, *options: str, at: str) -> dict[str, Any]:
    """A host that has a separate file system at one of FOLDERS."""
    mount = Mount(at, kind, frozenset(options))
    return {"storage": Storage(below=tuple((folder, mount if folder == at else ROOT) for folder in FOLDERS))}


def unwritable(*paths: str) -> dict[str, Any]:
    return {"storage": Storage(unwritable=paths)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unwritable("/etc/hosts"), ["host home: /etc/hosts is 'not writable, not even", "chattr -i", "lsattr -d"]),
        (
            unwritable("/etc/passwd", "/etc/shadow"),
            ["/etc/passwd, /etc/shadow is", "lsattr -d /etc/passwd /etc/shadow"],
        ),
        (unwritable("/var/lib/ollama"), ["host home: /var/lib/ollama is", "no_root_squash"]),
        # The whole file system is read-only. Only the highest folder is reported.
        (unwritable("/usr", "/usr/bin", "/usr/lib"), ["host home: /usr is", "mount -o remount,rw"]),
        ({"storage": Storage(impassable=("/opt",))}, ["/opt is 'closed to all accounts but root'", "chmod o+rx /opt"]),
        ({"storage": Storage(fleeting="of type overlay")}, ["root file system", "of type overlay", "raspi-config"]),
        (on("vfat", "rw", at="/var/lib/ollama"), ["of /var/lib/ollama is 'vfat at /var/lib/ollama'", "umount"]),
        (on("fuseblk", "rw", at="/opt"), ["file system of /opt", "fuseblk", "the owner of each file"]),
        (on("nfs4", "rw", at="/var/lib/openclaw"), ["file system of /var/lib/openclaw", "nfs4", "this host"]),
        (
            on("tmpfs", "rw", at="/var/lib/ollama"),
            ["of /var/lib/ollama is 'tmpfs at", "in memory'", "umount /var/lib/o"],
        ),
        (on("tmpfs", "rw", at="/var/lib/openclaw"), ["/var/lib/openclaw is 'tmpfs", "keeps its content"]),
        (on("ramfs", "rw", at="/opt"), ["of /opt is 'ramfs at /opt, in memory'"]),
        (on("ext4", "rw", "noexec", at="/opt"), ["ext4 at /opt, mounted with noexec", "mount -o remount,exec /opt"]),
        (on("ext4", "noexec", at="/var/lib/openclaw"), ["with noexec", "user and users include noexec"]),
    ],
)
def test_what_would_end_a_run_in_the_middle_is_refused_before(change: dict[str, Any], words: list[str]) -> None:
    problems, _ = check(**change)
    assert len(problems) == 1
    for word in (*words, "Next: "):
        assert word in problems[0]


def linked(path: str, target: str) -> dict[str, Any]:
    return {"storage": Storage(links=((path, target),))}


@pytest.mark.parametrize("path", ["/var/lib/ollama", "/var/lib/ollama/models", "/etc/private-ai"])
def test_a_link_in_the_place_of_a_folder_is_refused_with_the_mount_that_does_the_same(path: str) -> None:
    for claimed in (frozenset({path}), frozenset[str]()):
        problems, _ = check(**linked(path, "/big disk/models"), beside=replace(GOOD.beside, claimed=claimed))
        assert len(problems) == 1
        for words in (
            f"host home: {path} is 'a link to /big disk/models'",
            f"Next: mount the folder there instead: rm {path}; mkdir {path}; echo '/big disk/models {path} none bind",
        ):
            assert words in problems[0]


def test_links_are_seen_and_are_no_other_program(tmp_path: Path) -> None:
    """This includes a link to a disk that is not mounted."""
    (tmp_path / "ollama").symlink_to("/nowhere/models")
    (tmp_path / "openclaw").mkdir()
    path = str(tmp_path / "ollama")
    found = asked(f"lie=; {writable_folders.SECTIONS.replace(' /var/lib/ollama ', f' {path} ')}")
    assert found["links"] == [f"{path} /nowhere/models"]
    text = "\n".join(found["links"])
    assert parse(with_section("links", text)).storage.links == ((path, "/nowhere/models"),)
    places = found_places.SECTIONS[found_places.SECTIONS.index("s places") : found_places.SECTIONS.index("s drop-ins")]
    moved = places.replace("/var/lib/ollama", path).replace("/var/lib/openclaw", str(tmp_path / "openclaw"))
    assert path not in asked(f"c=; {moved}")["places"]


@pytest.mark.parametrize(
    ("roles", "change"),
    [
        # This folder is needed for another role only, so here it belongs to its owner.
        (("coordinator",), linked("/var/lib/ollama", "/big")),
        # Models may be on a NAS, or on a file system from which no program can be started.
        (ALL_ROLES, on("nfs4", "rw", at="/var/lib/ollama")),
        (ALL_ROLES, on("ext4", "rw", "noexec", at="/var/lib/ollama")),
        (("coordinator",), on("tmpfs", "rw", at="/var/lib/ollama")),
        (ALL_ROLES, on("btrfs", "rw", "nosuid", "nodev", at="/var/lib/openclaw")),
        (("coordinator",), unwritable("/var/lib/ollama")),
        # Any file system is accepted where the host's roles write nothing.
        (("coordinator",), on("vfat", "noexec", at="/var/lib/openclaw")),
    ],
)
def test_what_does_no_harm_passes(roles: tuple[str, ...], change: dict[str, Any]) -> None:
    assert check(roles, **change) == ([], [])


def test_what_was_written_already_is_a_warning() -> None:
    """If somebody makes the files of accounts or names read-only after the first run, later runs are not refused."""
    profile: dict[str, Any] = unwritable(*ACCOUNT_FILES, "/etc/hosts")
    profile |= {"beside": replace(GOOD.beside, logins=SYSTEM), "control_server": ("192.168.1.10",)}
    problems, warnings = check(**profile)
    assert problems == [] and len(warnings) == 1 and "/etc/passwd" in warnings[0] and "/etc/hosts" in warnings[0]
    # If a host gets another role later, it needs accounts that do not exist yet.
    profile["beside"] = replace(GOOD.beside, logins=SYSTEM[:1])
    problems, warnings = check(**profile)
    assert "host home: /etc/passwd, " in problems[0] and "/etc/hosts" in warnings[0]


@pytest.mark.parametrize(
    ("words", "root", "why"),
    [
        ("root=/dev/sda1 ro quiet", "ext4", ""),
        ("root=PARTUUID=1 overlayroot=disabled", "ext4", ""),
        ("overlayroot=tmpfs:recurse=0", "overlay", "overlayroot=tmpfs:recurse=0 on the kernel's command line"),
        ("boot=overlay root=/dev/mmcblk0p2", "overlay", "boot=overlay on"),
        ("boot=live components", "overlay", "boot=live on"),
        ("systemd.volatile=yes", "tmpfs", "systemd.volatile=yes on"),
        # One system uses /etc/overlayroot.conf, the other one has no disk.
        ("root=/dev/sda1", "overlay", "of type overlay"),
        ("ip=dhcp", "tmpfs", "of type tmpfs"),
    ],
)
def test_a_system_that_forgets_is_known(words: str, root: str, why: str) -> None:
    assert fleeting(words, root).startswith(why) and bool(fleeting(words, root)) is bool(why)
    profile = parse(with_section("command-line", words, with_section("mounts", f"/ {root} rw")))
    assert profile.storage.fleeting == fleeting(words, root)


def test_a_container_lives_on_what_it_is_given() -> None:
    # In a container, the kernel's command line is that of the machine around it, so the script does not print it.
    assert parse(with_section("mounts", "/ overlay rw")).storage.fleeting == ""


def test_what_was_mounted_last_counts() -> None:
    rest = ["/dev/vda 99999999 0 0 /"] * 2
    rows = "\n".join([*rest, "/dev/vdb 9999 0 0 /var/lib/ollama", *rest, *rest])
    lines = "/ ext4 rw\n/var/lib/ollama autofs rw\n/var/lib/ollama exfat rw,noexec"
    found = dict(parse(with_section("mounts", lines, with_section("disk", rows))).storage.below)
    assert found["/var/lib/ollama"] == Mount("/var/lib/ollama", "exfat", frozenset({"rw", "noexec"}))
    assert found["/opt"] == ROOT


def test_too_few_inodes_are_told_before() -> None:
    def disks(free: int | None) -> dict[str, Any]:
        all_on_one = tuple(Disk(folder, "/dev/sda", 50_000, free) for folder in FOLDERS)
        return {"machine": replace(GOOD.machine, disks=all_on_one)}

    assert check(**disks(72_100)) == ([], []) and check(**disks(None)) == ([], [])
    problems, _ = check(**disks(72_099))
    words = (
        "disk at /var/lib and /opt and /var/lib/openclaw is 'room for 72099 more files'; accepted: 72100 files (inodes)"
    )
    assert words in problems[0]
    claimed = replace(GOOD.beside, claimed=frozenset({"/opt/private-ai"}))
    problems, warnings = check(**disks(5), beside=claimed)
    assert problems == [] and "room for 5 more files; a first deployment needs" in warnings[0]
    assert check(("coordinator",), **disks(2100)) == ([], [])


def asked(script: str) -> dict[str, list[str]]:
    """The output of parts of the script on this computer, with other paths."""
    functions = SCRIPT[SCRIPT.index("s() {") : SCRIPT.index("s clock;")]
    said = subprocess.run(["sh", "-c", functions + script], capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        if line.startswith("@@ "):
            found[line[3:]] = []
        elif line:
            found[next(reversed(found))].append(line)
    return found


def test_the_script_finds_what_root_cannot_write(tmp_path: Path) -> None:
    """This includes an immutable file, if this computer allows making one."""
    (tmp_path / "hosts").touch()
    script = writable_folders.SECTIONS.replace(" /etc/hosts ", f" {tmp_path}/hosts ")
    made = subprocess.run(["chattr", "+i", tmp_path / "hosts"], capture_output=True).returncode == 0
    try:
        found = asked(f"lie=; {script}")
    finally:
        subprocess.run(["chattr", "-i", tmp_path / "hosts"], capture_output=True)
    assert (str(tmp_path / "hosts") in found["unwritable"]) is made
    assert "drwxr-xr-x /" in found["passed"] or "dr-xr-xr-x /" in found["passed"]
    assert {line.split()[0] for line in found["mounts"]} == {"/"}


def test_the_mounts_are_those_that_df_names() -> None:
    """The test runs a large part of the script, because other sections use variables too. /dev stands for a folder that
    is a mount on every computer."""
    found = asked(SCRIPT[SCRIPT.index("s memory") : SCRIPT.index("s clock-end")].replace(" /opt ", " /dev "))
    below = writable_folders.parse_storage(found, capabilities.targets(found["disk"])).below
    assert [folder for folder, _ in below] == list(FOLDERS) and all(mount.options for _, mount in below)
    assert dict(below)["/opt"].at == "/dev"


def test_a_masked_unit_is_seen(tmp_path: Path) -> None:
    (tmp_path / "systemd-logind.service").symlink_to("/dev/null")
    (tmp_path / "dbus.service").write_text("[Unit]\n")
    script = capabilities.SECTIONS[capabilities.SECTIONS.index("s masked") :].split("s packages")[0]
    assert asked(script.replace("/etc/systemd/system", str(tmp_path))) == {"masked": ["systemd-logind.service"]}


#: What dpkg 1.22 says when it cannot set up a package, here one that somebody has installed with `dpkg -i`.
BROKEN = """\
dpkg: dependency problems prevent configuration of brokenthing:
 brokenthing depends on nosuchpackage; however:
  Package nosuchpackage is not installed.

dpkg: error processing package brokenthing (--configure):
 dependency problems - leaving unconfigured
"""


@pytest.mark.parametrize(
    ("status", "dpkg", "trouble"),
    [
        ("install ok installed", "exit 9", ""),
        ("hold ok triggers-awaited", "exit 9", ""),
        # An interrupted run leaves these. The next run sets them up.
        ("install ok unpacked", "echo 'Setting up hello (2.10-5) ...'", ""),
        (
            "install ok half-configured",
            "echo 'dpkg: error: dpkg frontend lock was locked by another process'; exit 2",
            "",
        ),
        ("install reinstreq half-installed", f"cat <<end >&2; exit 1\n{BROKEN}end", BROKEN),
        ("install ok unpacked", f"cat <<end >&2; exit 1\n{BROKEN}end", BROKEN),
    ],
)
def test_packages_that_dpkg_cannot_set_up_are_seen(tmp_path: Path, status: str, dpkg: str, trouble: str) -> None:
    (tmp_path / "dpkg").write_text(f"#!/bin/sh\n{dpkg}\n")
    (tmp_path / "dpkg").chmod(0o755)
    (tmp_path / "status").write_text(f"Package: hello\nStatus: {status}\n")
    script = capabilities.SECTIONS[capabilities.SECTIONS.index("s packages") :].split("s podman-store")[0]
    found = asked(f"PATH={tmp_path}:$PATH; {script.replace(capabilities.DPKG_STATUS, str(tmp_path / 'status'))}")
    assert [each.strip() for each in found["packages"]] == [each.strip() for each in trouble.splitlines() if each]
    told = parse(with_section("packages", "\n".join(found["packages"]))).machine.package_trouble
    assert told == (" ".join(each.strip() for each in BROKEN.splitlines()[:3]) if trouble else "")


def test_a_deployed_host_is_not_refused_for_its_packages() -> None:
    changed: dict[str, Any] = {"machine": replace(GOOD.machine, package_trouble="dpkg: dependency problems")}
    assert check(**changed)[0] and check(**changed, beside=replace(GOOD.beside, claimed=frozenset({"/opt/x"})))[0] == []


@pytest.mark.parametrize("works", [True, False])
def test_a_kernel_without_nftables_is_seen(tmp_path: Path, works: bool) -> None:
    told = "table ip a {\\n}\\n" if works else "netlink: Error: cache initialization failed: Protocol not supported"
    (tmp_path / "nft").write_text(f"#!/bin/sh\nprintf '{told}\\n' {'' if works else '>&2; exit 1'}\n")
    (tmp_path / "nft").chmod(0o755)
    script = found_places.SECTIONS[found_places.SECTIONS.index("s tables;") :]
    found = asked(f"PATH={tmp_path}:$PATH; {script}")
    assert found["tables"][:2] == (["table ip a {", "}"] if works else [])
    assert found["nft-trouble"] == ([] if works else [told])


def test_a_folder_that_accounts_cannot_pass_is_seen() -> None:
    said = "drwxr-xr-x /\ndrwx------ /opt\ndrwxr-x--- /var/lib\ndrwxrwxrwt /usr"
    assert parse(with_section("passed", said)).storage.impassable == ("/opt", "/var/lib")
