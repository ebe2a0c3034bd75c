"""The operation `component`: what a host has is parsed and compared with the want, and commands are made from this."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from facts.engine.component_state import ComponentState, block_text, inputs_digest
from operations.engine.component import add_subids, install_block, install_files, install_packages, pack
from plan.engine.difference import difference
from plan.engine.want import (
    Account,
    Block,
    Component,
    Directory,
    Effect,
    File,
    Have,
    Program,
    ProgramPart,
    Secret,
    SeenPath,
    SeenUnit,
    Unit,
    covers,
    in_parts,
    merged,
    united,
)
from tasks.base import PACKAGES, keeper

PART = ProgramPart("bin/tool", Path("/nowhere"), "a" * 64, 5, "0755")
WANT = Component(
    packages=("curl",),
    accounts=(Account("svc", "/var/lib/svc", runs_containers=True),),
    programs=(Program("tool", "1.0", (PART,), (("/usr/local/bin/tool", "bin/tool"),)),),
    directories=(Directory("/etc/svc", "root", "svc", "0750"),),
    files=(File("/etc/svc/conf", "a = 1\n", "root", "svc", "0640"),),
    secrets=(Secret("/etc/svc/token", "svc", "svc"),),
    blocks=(Block("/etc/hosts", "names", ("10.0.0.1 hub",)),),
    effects=(Effect("/etc/svc/conf", "svc-knows", "svc-reload"),),
    units=(Unit("svc.service", inputs=("/etc/svc/conf", "/usr/local/bin/tool")),),
)
PROGRAM = WANT.programs[0]

#: The output of the fact's command on a host that has everything.
COMPLETE = f"""\
package curl installed
account svc:x:992:992::/var/lib/svc:/usr/sbin/nologin
groups svc svc
subids svc
lingering svc
path /etc/svc|directory|root|svc|0750|4096|0
path /etc/svc/conf|regular file|root|svc|0640|6|0
path /etc/svc/token|regular file|svc|svc|0400|64|0
path {PROGRAM.prefix}|directory|root|root|0755|4096|0
path /usr/local/bin/tool|symbolic link|root|root|0777|40|0
link /usr/local/bin/tool|{PROGRAM.prefix}/bin/tool
sha256 {WANT.files[0].sha256}  /etc/svc/conf
effect /etc/svc/conf
block /etc/hosts|names|{WANT.blocks[0].sha256}
units svc.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
ExecMainStartTimestamp=@1764300000
unit svc.service|{"b" * 64}|{"b" * 64}
end"""


def have(text: str = COMPLETE) -> Have:
    return ComponentState().process(text.splitlines())


def test_a_host_that_has_everything_needs_nothing() -> None:
    assert not difference(WANT, have())


def test_a_bare_host_needs_everything() -> None:
    todo = difference(WANT, Have())
    assert todo.packages == WANT.packages and todo.accounts == WANT.accounts and todo.programs == WANT.programs
    assert todo.links == (("/usr/local/bin/tool", f"{PROGRAM.prefix}/bin/tool"),)
    assert todo.directories == WANT.directories and todo.files == WANT.files and todo.secrets == WANT.secrets
    assert todo.blocks == WANT.blocks and todo.units == WANT.units and todo.effects == WANT.effects
    assert len(todo.changes) == 10 and all("(it is missing)" in str(change) for change in todo.changes[:7])


#: The changes that follow if an input of a unit differs.
CONF, LINK = (
    f"unit svc.service would be restarted ({path} differs)" for path in ("/etc/svc/conf", "/usr/local/bin/tool")
)
EFFECT = f"command {WANT.effects[0].command} would be run (/etc/svc/conf differs)"
BEHIND = "unit svc.service would be restarted (no run has started it with its current inputs)"
TOOL = f"{PROGRAM.prefix}/bin/tool"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("package curl installed", "package curl config-files", ["package curl would be installed (it is missing)"]),
        ("subids svc\n", "", ["account svc would be corrected (it has no subordinate ids)"]),
        ("lingering svc\n", "", ["account svc would be corrected (lingering is off)"]),
        (
            "0750|4096",
            "0755|4096",
            ["directory /etc/svc would be given its owner and mode (mode 0755 instead of 0750)"],
        ),
        (
            "directory|root|svc",
            "regular file|root|svc",
            ["directory /etc/svc would be given its owner and mode (it is a regular file)"],
        ),
        (
            "file|root|svc|0640",
            "file|root|svc|0644",
            ["file /etc/svc/conf would be written (mode 0644 instead of 0640)", EFFECT, CONF],
        ),
        (
            "file|root|svc|0640",
            "file|svc|svc|0640",
            ["file /etc/svc/conf would be written (owner svc instead of root)", EFFECT, CONF],
        ),
        (
            "regular file|root",
            "symbolic link|root",
            ["file /etc/svc/conf would be written (it is a symbolic link)", EFFECT, CONF],
        ),
        (
            WANT.files[0].sha256,
            "c" * 64,
            ["file /etc/svc/conf would be written (its content differs and is not shown)", EFFECT, CONF],
        ),
        (
            f"link /usr/local/bin/tool|{PROGRAM.prefix}",
            "link /usr/local/bin/tool|/opt/old",
            [f"link /usr/local/bin/tool would be set to {TOOL} (it leads to /opt/old/bin/tool)", LINK],
        ),
        (
            "svc|svc|0400",
            "svc|svc|0444",
            ["secret /etc/svc/token would be given its owner and mode (mode 0444 instead of 0400)"],
        ),
        # The file is as wanted again, but the unit was started while it was different.
        (
            "|0640|6|0",
            "|0640|6|1764300001",
            ["unit svc.service would be restarted (it was started before /etc/svc/conf was last written)"],
        ),
        # The secret is shorter than those that the deployment makes.
        (
            "svc|svc|0400|64",
            "svc|svc|0400|8",
            ["secret /etc/svc/token would be made anew (it has 8 digits instead of 64)"],
        ),
        # An earlier run ended before it ran this command.
        (
            "effect /etc/svc/conf\n",
            "",
            [f"command {WANT.effects[0].command} would be run (/etc/svc/conf has not taken effect)"],
        ),
        (
            "groups svc svc\n",
            "groups svc svc adm\n",
            ["account svc would be corrected (it is in other groups than its own)"],
        ),
        (WANT.blocks[0].sha256, "d" * 64, ["lines 'names' in /etc/hosts would be replaced (they differ)"]),
        ("ActiveState=active", "ActiveState=inactive", ["unit svc.service would be started (it is stopped)"]),
        ("ActiveState=active", "ActiveState=activating", ["unit svc.service would be started (it is activating)"]),
        (
            "UnitFileState=enabled",
            "UnitFileState=disabled",
            ["unit svc.service would be restarted (it is not enabled)"],
        ),
        (
            "NeedDaemonReload=no",
            "NeedDaemonReload=yes",
            ["unit svc.service would be restarted (systemd has not read its changed files)"],
        ),
        # The file was written, but the run ended before the restart: the stamp is of the old inputs.
        (f"|{'b' * 64}|{'b' * 64}", f"|{'b' * 64}|{'e' * 64}", [BEHIND]),
        (f"|{'b' * 64}|{'b' * 64}", f"|{'b' * 64}|", [BEHIND]),
    ],
)
def test_one_thing_that_differs_is_put_right(old: str, new: str, says: list[str]) -> None:
    assert old in COMPLETE
    assert [str(change) for change in difference(WANT, have(COMPLETE.replace(old, new, 1))).changes] == says


def test_a_unit_that_is_to_be_stopped() -> None:
    want = Component(units=(Unit("svc.service", stopped=True),))
    assert [str(change) for change in difference(want, have()).changes] == [
        "unit svc.service would be stopped (it is running)"
    ]
    gone = COMPLETE.replace("=active", "=inactive").replace("=enabled", "=disabled")
    assert not difference(want, have(gone))
    assert not difference(want, Have())


def test_another_build_of_the_same_version_is_another_folder() -> None:
    other = replace(PROGRAM, parts=(replace(PART, sha256="f" * 64),))
    assert other.prefix != PROGRAM.prefix and other.prefix.startswith("/opt/private-ai/tool-1.0-")


@pytest.mark.parametrize("text", ["", "package curl installed", "what is this\nend"])
def test_an_answer_that_was_cut_short_is_an_error(text: str) -> None:
    with pytest.raises(FactProcessError):
        have(text)


def test_the_facts_command_is_good_shell() -> None:
    done = subprocess.run(
        ["sh", "-n"], input=ComponentState().command(WANT), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_digest_of_inputs_is_the_same_in_a_script_that_stops_at_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    unit = Unit("svc.service", inputs=(str(tmp_path / "file"), str(tmp_path / "missing")), in_force="echo rules")
    plain, strict, other = (
        subprocess.run(["sh", "-c", script], text=True, capture_output=True, check=True).stdout
        for script in (
            inputs_digest(unit),
            f"set -e; {inputs_digest(unit)}",
            inputs_digest(replace(unit, in_force="echo other")),
        )
    )
    assert plain == strict != other


def test_what_several_components_want_is_asked_as_one_and_told_in_parts() -> None:
    other = Component(
        packages=("curl", "jq"),
        files=WANT.files,
        units=(Unit("timer.timer"), Unit("cage.service", user="svc"), Unit("cage.timer", user="svc")),
    )
    whole = merged((WANT, other))
    assert whole.packages == ("curl", "jq") and whole.files == WANT.files and len(whole.units) == 4
    assert covers(whole, WANT) and covers(whole, other) and not covers(WANT, other)
    # If two components want the same unit with different inputs, the host is asked about only one of them.
    twice = Component(units=(Unit("svc.service", inputs=("/etc/other",)),))
    assert merged((WANT, twice)) == WANT and not covers(WANT, twice)
    rest, system, account = in_parts(whole)
    assert not rest.units and rest.files == whole.files
    assert [unit.name for unit in system.units] == ["svc.service", "timer.timer"]
    assert [unit.name for unit in account.units] == ["cage.service", "cage.timer"]
    assert in_parts(Component()) == [] and in_parts(Component(units=WANT.units)) == [Component(units=WANT.units)]
    told = united((have(), Have(packages=frozenset({"jq"}), units={"timer.timer": have().units["svc.service"]})))
    assert told.packages == {"curl", "jq"} and set(told.units) == {"svc.service", "timer.timer"}
    assert told.paths == have().paths


def test_each_unit_is_told_what_systemd_says_of_it() -> None:
    said = "units a.service b.timer\nLoadState=loaded\nActiveState=active\nUnitFileState=\nNeedDaemonReload=yes\n\n"
    said += "LoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n"
    digests = f"unit a.service|{'a' * 64}|\nunit b.timer|none|none\n"
    seen = have(f"{said}{digests}end").units
    # The digests are printed when they are ready, which may be before the answer of systemd.
    head, _, rest = said.partition("\n")
    assert have(f"{head}\n{digests}{rest}end").units == seen
    assert seen["a.service"] == SeenUnit("loaded", "active", "", True, "a" * 64, "")
    assert seen["b.timer"] == SeenUnit("not-found", "inactive", "", False, "none", "none")
    # If systemd does not answer, there are no lines of it.
    assert have("units a.service\nunit a.service|none|\nend").units["a.service"].active == ""
    for strange in ("LoadState=loaded\nend", "units a.service\n\n\nLoadState=loaded\nend"):
        with pytest.raises(FactProcessError):
            have(strange)


def test_a_unit_that_is_reloaded_or_runs_no_program_is_not_measured_by_its_start() -> None:
    late = COMPLETE.replace("|0640|6|0", "|0640|6|1764300001")
    assert difference(WANT, have(late))
    assert not difference(WANT, have(late.replace("=@1764300000", "=")))
    assert not difference(replace(WANT, units=(replace(WANT.units[0], reload=True),)), have(late))
    assert not difference(WANT, have(late.replace("=@1764300000", "=@1764300001")))


def test_files_travel_with_owner_and_mode_under_a_name_beside_the_old_one() -> None:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(pack(WANT.files)))) as tar:
        (file,) = tar.getmembers()
    assert (file.name, file.mode, file.uname, file.gname) == ("etc/svc/conf.new", 0o640, "root", "svc")


def test_a_file_that_its_check_refuses_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    target = tmp_path / "conf"
    target.write_text("old\n")
    new = File(str(target), "new\n", check="grep -q good {}")
    refused = subprocess.run(
        ["sh", "-c", install_files((), (new,))], input=pack((new,)), text=True, capture_output=True, check=False
    )
    assert refused.returncode != 0
    assert target.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]
    good = replace(new, content="good\n")
    done = subprocess.run(
        ["sh", "-c", install_files((), (good,))], input=pack((good,)), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert target.read_text() == "good\n"


def test_a_block_is_replaced_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    for address in ("10.0.0.1", "10.0.0.2"):
        block = Block(str(hosts), "names", (f"{address} hub",))
        subprocess.run(["sh", "-c", install_block(block)], input=block.text, text=True, check=True)
        assert hosts.read_text() == f"127.0.0.1 localhost\n{block.text}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1 localhost\n127.0.1.1 laptop", "127.0.0.1 localhost\n127.0.1.1 laptop\n"),
        # The first block begins behind a line without a line end. A second block was written because of that.
        ("127.0.1.1 laptop{begin}\n10.0.0.9 hub\n{end}\n{begin}\n10.0.0.9 hub\n{end}\n", "127.0.1.1 laptop\n"),
        ("127.0.0.1 localhost\r\n{begin}\r\n10.0.0.9 hub\r\n{end}\r\n", "127.0.0.1 localhost\r\n"),
        # Somebody has removed the end mark.
        ("{begin}\n10.0.0.9 hub\n10.0.0.5 printer\n", "10.0.0.5 printer\n"),
        ("{begin}\n10.0.0.5 printer\n{begin}\n10.0.0.9 hub\n{end}\n10.0.0.6 nas\n", "10.0.0.5 printer\n10.0.0.6 nas\n"),
        ("10.0.0.5 printer\n{end}\n10.0.0.6 nas\n", "10.0.0.5 printer\n10.0.0.6 nas\n"),
        ("", ""),
    ],
)
def test_a_block_comes_into_any_file_and_takes_nothing_of_others(tmp_path: Path, before: str, after: str) -> None:
    hosts = tmp_path / "hosts"
    block = Block(str(hosts), "names", ("10.0.0.1 hub",))
    hosts.write_bytes(before.format(begin=block.begin, end=block.end).encode())
    shown = subprocess.run(["sh", "-c", block_text(block)], text=True, capture_output=True, check=True)
    assert shown.stdout != block.text
    for _ in range(2):
        subprocess.run(["sh", "-c", install_block(block)], input=block.text, text=True, check=True)
        assert hosts.read_bytes().decode() == after + block.text
    shown = subprocess.run(["sh", "-c", block_text(block)], text=True, capture_output=True, check=True)
    assert shown.stdout == block.text


def test_a_name_that_others_took_out_of_the_file_comes_back(tmp_path: Path) -> None:
    hosts, program = tmp_path / "hosts", tmp_path / "names"
    block = Block(str(hosts), "names", ("10.0.0.1 hub",))
    program.write_text(keeper(block))
    for there, after in (
        ("127.0.0.1 localhost", "127.0.0.1 localhost\n"),
        (f"a\n{block.begin}\n10.0.0.9 hub\n{block.end}\nb\n", "a\nb\n"),
        (None, "127.0.0.1 localhost\n"),
    ):
        hosts.unlink(missing_ok=True)
        if there is not None:
            hosts.write_text(there)
        subprocess.run(["sh", str(program)], check=True)
        assert hosts.read_text() == after + block.text
        # The program's own change starts it again. The second time, it must change nothing.
        inode = hosts.stat().st_ino
        subprocess.run(["sh", str(program)], check=True)
        assert hosts.stat().st_ino == inode


def test_an_owned_path_reports_what_stat_says() -> None:
    assert have().paths["/etc/svc/token"] == SeenPath("regular file", "svc", "svc", "0400", 64)


def test_what_an_interrupted_run_left_among_the_uploads_is_removed(tmp_path: Path) -> None:
    left = Component(directories=(Directory("/incoming", mode="0700", empty=True),))
    seen = "path /incoming|directory|root|root|0700|4096|0\n{}end"
    assert not difference(left, have(seen.format("")))
    todo = difference(left, have(seen.format("filled /incoming\n")))
    assert todo.directories == left.directories
    assert str(todo.changes[0]) == "directory /incoming would be emptied (it is not empty)"
    folder = Directory(str(tmp_path / "incoming"), mode="0700", empty=True)
    (tmp_path / "incoming/half").mkdir(parents=True)
    (tmp_path / "incoming/half/file").write_text("x")
    command = ComponentState().command(Component(directories=(folder,)))
    assert f"filled {folder.path}\n" in subprocess.run(["sh", "-c", command], text=True, capture_output=True).stdout
    done = subprocess.run(["sh", "-c", install_files((folder,), ())], input=pack(()), text=True, check=False)
    assert done.returncode == 0 and list(Path(folder.path).iterdir()) == []
    assert "filled" not in subprocess.run(["sh", "-c", command], text=True, capture_output=True).stdout


def run_with_tools(folder: Path, script: str, **tools: str) -> list[str]:
    """Run a script with other tools in place of the real ones. Returns the calls of the tools, and the script's exit
    status as the last item. The script's standard error is in the file `errors`."""
    for name, body in tools.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f'#!/bin/sh\necho "{tool.name} $*" >> {folder}/calls\n{body}\n')
        tool.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False)
    (folder / "errors").write_text(done.stderr)
    calls = (folder / "calls").read_text().splitlines()
    return [*(line.split(" ")[0] + " " + line.split(" ")[-1] for line in calls), str(done.returncode)]


def test_packages_that_are_half_installed_are_finished_first(tmp_path: Path) -> None:
    once = f'case "$*" in *install*) test -e {tmp_path}/configured;; *) :;; esac'
    calls = run_with_tools(
        tmp_path, install_packages(("curl",)), apt_get=once, dpkg=f"touch {tmp_path}/configured", sleep="exit 1"
    )
    assert calls == ["apt-get curl", "dpkg -a", "apt-get update", "apt-get curl", "0"]


def test_an_index_that_another_update_holds_is_waited_for(tmp_path: Path) -> None:
    held = (
        f'case "$*" in *install*) test -e {tmp_path}/third;; '
        f"*) test -e {tmp_path}/third && exit; echo 'E: Could not get lock /var/lib/apt/lists/lock' >&2; "
        f"if test -e {tmp_path}/second; then touch {tmp_path}/third; else touch {tmp_path}/second; fi; exit 100;; esac"
    )
    calls = run_with_tools(tmp_path, install_packages(("curl",)), apt_get=held, dpkg=":", sleep=":")
    waits = ["apt-get update", "sleep 2"]
    assert calls == ["apt-get curl", "dpkg -a", *waits, *waits, "apt-get update", "apt-get curl", "0"]


def test_a_mirror_that_does_not_answer_is_an_error_with_its_words(tmp_path: Path) -> None:
    calls = run_with_tools(tmp_path, install_packages(("curl",)), apt_get="echo no route >&2; exit 100", dpkg=":")
    assert calls == ["apt-get curl", "dpkg -a", "apt-get update", "apt-get curl", "1"]
    assert (tmp_path / "errors").read_text() == "no route\n" * 2


def test_a_package_that_cannot_be_set_up_is_an_error_with_dpkgs_words(tmp_path: Path) -> None:
    fails = 'case "$*" in *install*) echo "dpkg: error processing package curl"; echo "E: dpkg" >&2; exit 100;; esac'
    calls = run_with_tools(tmp_path, install_packages(("curl",)), apt_get=fails, dpkg=":")
    assert calls[-1] == "1"
    assert (tmp_path / "errors").read_text() == "dpkg: error processing package curl\nE: dpkg\n"


def test_a_file_that_was_there_before_its_package_stays(tmp_path: Path) -> None:
    """Otherwise dpkg would ask which file to keep, and fail because nobody answers."""
    run_with_tools(tmp_path, install_packages(("curl",)), apt_get="exit 100", dpkg=":")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls and all("--force-confold" in call for call in calls)


@pytest.mark.parametrize(
    ("subuid", "subgid", "says"),
    [
        (None, None, "--add-subuids 100000-165535 svc"),
        ("", "", "--add-subuids 100000-165535 svc"),
        # The new ids come after all ids of users and groups. An account whose name begins with the same letters has no
        # influence.
        ("anna:100000:65536\nsvc-old:300000:10\n", "ben:400000:65536\n", "--add-subuids 465536-531071 svc"),
        ("anna:100000:65536\nsvc:165536:65536\n", "", ""),
    ],
)
def test_an_account_that_is_there_gets_subordinate_ids(
    tmp_path: Path, subuid: str | None, subgid: str | None, says: str
) -> None:
    for name, text in (("subuid", subuid), ("subgid", subgid)):
        if text is not None:
            (tmp_path / name).write_text(text)
    script = f'usermod() {{ echo "$@"; }}\n{add_subids("svc", "uid")}'.replace("/etc/", f"{tmp_path}/")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == says


def test_subordinate_ids_are_those_of_users_and_of_groups(tmp_path: Path) -> None:
    # podman refuses an account that has only one of the two.
    account = Component(accounts=(Account("root", "/root", runs_containers=True),))
    script = ComponentState().command(account).replace("/etc/sub", f"{tmp_path}/sub")
    seen = []
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("root:100000:65536\n")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        seen.append("subids root" in done.stdout)
    assert seen == [False, True]


def test_what_runs_on_hosts_comes_with_the_packages_of_the_base() -> None:
    """A minimal Debian has no Python. Without Python, a first run could not load the rules."""
    root = Path(__file__).parents[2]
    texts = [file for folder in ("templates", "files") for file in (root / folder).rglob("*") if file.is_file()]
    users = [file.name for file in texts if re.search(r"^[^#\n]*\bpython3\b", file.read_text("utf-8"), re.MULTILINE)]
    assert users and "python3-minimal" in PACKAGES
    assert not [file.name for file in texts if re.search(r"^[^#\n]*\bperl\b", file.read_text("utf-8"), re.MULTILINE)]
