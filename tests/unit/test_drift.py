"""Drift: what is shown, what is never shown, the stamp, the report, and how a run that only looks ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyinfra.api import Inventory, State, StringCommand, operation
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.operation import add_op
from pyinfra.context import ctx_host, ctx_state

from facts.engine.file_contents import MOST, Contents
from operations.engine.announced_changes import changed, differs, planned
from operations.engine.run import CommandLine, begin_run
from operations.engine.stamp import stamped
from plan.drift import WIDTH, Found, HostDrift, as_json, content_diff, narrow, report
from plan.engine.difference import Change, difference
from plan.engine.stamp import UNKNOWN, Deployed, Stamp, parse_stamp, settings_digest
from plan.engine.want import Block, Component, File, Have, SeenPath
from plan.house.inventory import HostEntry
from tasks import drift
from tests.unit import houses

ROOT = Path(__file__).parents[2]
CONF = File("/etc/svc/conf", "a = 1\nb = 2\n")
HERE = Deployed("0123456789ab", "aaaaaaaaaaaa", {"tailscale": "1.102.3", "pyinfra": "3.10.0"})
WHEN = datetime(2026, 11, 3, 20, 5, 9, tzinfo=UTC)


def seen(file: File, kind: str = "regular file", mode: str = "") -> Have:
    path = SeenPath(kind, file.owner, file.group, mode or file.mode, 6, "f" * 64)
    return Have(paths={file.path: path})


def change_of(file: File, have: Have) -> Change:
    [change] = difference(Component(files=(file,)), have).changes
    return change


@pytest.mark.parametrize("file", [CONF, replace(CONF, mode="0600", shown=True)])
def test_a_content_that_may_be_seen_is_shown(file: File) -> None:
    change = change_of(file, seen(file))
    assert change.shown == file and change.why == "its content differs"


@pytest.mark.parametrize(
    ("file", "have"),
    [
        (replace(CONF, mode="0640"), None),
        (replace(CONF, mode="0400"), None),
        (replace(CONF, shown=False), None),
        # Somebody has made the file unreadable for others, perhaps because they wrote a secret into it.
        (CONF, seen(CONF, mode="0600")),
    ],
)
def test_a_content_that_may_hold_a_secret_is_named_and_not_shown(file: File, have: Have | None) -> None:
    change = change_of(file, have or seen(file))
    assert change.shown is None and change.why.startswith("its content differs and is not shown")


@pytest.mark.parametrize("have", [Have(), seen(CONF, "symbolic link", "0777"), seen(CONF, "directory", "0755")])
def test_what_is_no_file_is_not_read(have: Have) -> None:
    assert change_of(CONF, have).shown is None


def test_a_file_that_only_changes_its_owner_is_not_read() -> None:
    path = SeenPath("regular file", "root", "root", "0644", 12, CONF.sha256)
    change = change_of(replace(CONF, owner="svc"), Have(paths={CONF.path: path}))
    assert change.shown is None and change.why == "owner root instead of svc"


def test_the_fact_reads_files_and_blocks_as_they_are(tmp_path: Path) -> None:
    odd, long, block = (
        tmp_path / "odd name",
        tmp_path / "long",
        Block(str(tmp_path / "hosts"), "names", ("10.0.0.1 hub",)),
    )
    odd.write_bytes(b"one\r\n\xfftwo")
    long.write_text("x" * (MOST + 1))
    Path(block.path).write_text(f"127.0.0.1 localhost\n{block.text}::1 localhost\n")
    fact = Contents()
    files = [File(str(each), "") for each in (odd, tmp_path / "missing", long)]
    done = subprocess.run(["sh", "-c", fact.command([*files, block])], capture_output=True, text=True, check=True)
    assert fact.process(done.stdout.splitlines()) == ["one\r\n\ufffdtwo", "", None, block.text]
    with pytest.raises(FactProcessError):
        fact.process(done.stdout.splitlines()[:-1])


def test_a_content_is_compared_by_lines() -> None:
    change = Change("file", shown=CONF)
    assert content_diff(change, "a = 1\nb = 3\n") == (
        "--- on the host",
        "+++ wanted",
        "@@ -1,2 +1,2 @@",
        " a = 1",
        "-b = 3",
        "+b = 2",
    )
    lines = Change("lines", shown=Block("/etc/hosts", "names", ("10.0.0.1 hub",)))
    assert "+10.0.0.1 hub" in content_diff(lines, "")
    assert content_diff(Change("file"), None) == ()
    assert content_diff(change, None) == ("(the content on the host is too long to be shown)",)


@pytest.mark.parametrize("present", ["a = 1\nb = 2", "a = 1\r\nb = 2\r\n", "a = 1\nb = 2\n\n"])
def test_a_difference_in_the_ends_of_lines_is_one(present: str) -> None:
    assert [line for line in content_diff(Change("file", shown=CONF), present)[3:] if line[:1] in "+-"]


def test_long_lines_of_a_content_are_cut_and_what_differs_is_left() -> None:
    begin, end = "x" * 300, "y" * 300
    change = Change("file", shown=replace(CONF, content=f"{begin} new {end}\nshort\n{end}\nmore {begin}\n"))
    whole = content_diff(change, f"{begin} old {end}\nshort\n{end}\n")
    shown = list(narrow(whole))
    assert len(shown) == len(whole) and max(map(len, shown)) <= WIDTH + 3 < max(map(len, whole))
    assert f"-…{'x' * 29} old yyy" in "\n".join(shown) and f"+…{'x' * 29} new yyy" in "\n".join(shown)
    assert " short" in shown and f" {'y' * WIDTH}…" in shown and any(line.startswith("+more xxx") for line in shown)
    assert shown[:3] == list(whole[:3])
    # Short lines are not changed. Without lines, the result is empty.
    assert list(narrow(["-a", "+b", "+c", " d", "-e"])) == ["-a", "+b", "+c", " d", "-e"] and list(narrow(())) == []
    here = HostDrift("home", None, HERE, (Found("Svc", change, whole),))
    assert max(len(line) for _, line in report([here])) < 140
    assert list(whole) == as_json([here])["hosts"]["home"]["changes"][0]["diff"]


def test_what_a_host_says_does_not_command_the_terminal() -> None:
    lines = content_diff(Change("file", shown=CONF), "a = 1\nb = 2\n\x1b[2J\x9b1m\u202e\r\n")
    assert "-\\x1b[2J\\x9b1m\\u202e\\r" in lines
    stamp = Stamp(replace(HERE, revision="\x1b]0;x\x07"), WHEN)
    found = Found("Base", Change("link /usr/local/bin/tool", "set", "it leads to \x1b[1m"))
    said = "\n".join(line for _, line in report([HostDrift("home", stamp, HERE, (found,))]))
    assert "\x1b" not in said and "\x07" not in said and "\\x1b[1m" in said


def test_a_stamp_is_read_as_it_was_written() -> None:
    stamp = Stamp(HERE, WHEN)
    assert parse_stamp(stamp.text) == stamp
    assert json.loads(stamp.text)["when"] == "2026-11-03T20:05:09+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"revision": "x", "settings": "y", "programs": [], "when": "2026-11-03T20:05:09+00:00"}',
    ]
    + [Stamp(HERE, WHEN).text.replace(old, new) for old, new in (("+00:00", ""), ("2026", "soon"), ("settings", "x"))],
)
def test_a_stamp_that_is_not_understood_is_none(text: str) -> None:
    assert parse_stamp(text) is None


def entries(**data: object) -> list[HostEntry]:
    return [
        houses.entry("home", "coordinator", "gateway", "model_hosts", **data),
        houses.entry("laptop", "clients", **data),
    ]


def test_settings_are_the_same_when_they_come_to_the_same() -> None:
    same = settings_digest(entries())
    assert len(same) == 12
    assert settings_digest(entries(headscale_users=["people"], ollama_context=None)) == same
    # Settings of the connection do not count. With a password in it, the digest would help to guess the password.
    assert settings_digest(entries(ssh_user="admin", _sudo=True, _sudo_password="x", message="Hello")) == same


@pytest.mark.parametrize(
    "data",
    [
        {"headscale_users": ["people", "anna"]},
        {"ollama_context": 8192},
        {"house_domain": "other.internal"},
        {"lan_addresses": ["192.168.1.10"]},
        {"lan_addresses": None, "ssh_hostname": "192.168.1.11"},
    ],
)
def test_another_setting_is_another_digest(data: dict[str, object]) -> None:
    assert settings_digest(entries(**data)) != settings_digest(entries())


def test_another_role_is_another_digest() -> None:
    moved = [replace(entries()[0], groups=("coordinator", "gateway")), *entries()[1:]]
    assert settings_digest(moved) != settings_digest(entries())
    reordered = [replace(each, groups=tuple(reversed(each.groups))) for each in entries()]
    assert settings_digest(reordered) == settings_digest(entries())


def said(*hosts: HostDrift) -> list[str]:
    return [line for _, line in report(hosts)]


def test_the_report_names_what_differs_below_host_and_component() -> None:
    unit = Found("Ollama", Change("unit ollama.service", "started", "it is stopped"))
    file = Found("Ollama", Change("file /etc/x", "written", "its content differs"), ("--- on the host", "-old", "+new"))
    unknown = Found("CA", Change("not known before the run: the CA is made on the coordinator first"))
    hosts = (
        HostDrift("home", Stamp(HERE, WHEN), HERE, (file, unit)),
        HostDrift("laptop", None, HERE, (unknown,)),
        HostDrift("spare", Stamp(HERE, WHEN), HERE, ()),
    )
    lines = said(*hosts)
    assert lines == [
        "home: deployed 2026-11-03 20:05 UTC; revision 0123456789ab, the same as here; the same settings as here",
        "  Ollama",
        "    file /etc/x would be written (its content differs)",
        "      --- on the host",
        "      -old",
        "      +new",
        "    unit ollama.service would be started (it is stopped)",
        "",
        "laptop: no deployment has been completed here",
        "  CA",
        "    not known before the run: the CA is made on the coordinator first",
        "",
        "spare: deployed 2026-11-03 20:05 UTC; revision 0123456789ab, the same as here; the same settings as here",
        "  nothing differs",
        "",
        "Differences: 2 on home, 1 on laptop. A deployment corrects them.",
    ]
    styles = {line.strip(): style for style, line in report(hosts)}
    assert (styles["--- on the host"], styles["-old"], styles["+new"]) == ("place", "removed", "added")
    shown = json.loads(json.dumps(as_json(hosts)))
    assert shown["differs"] and list(shown["hosts"]) == ["home", "laptop", "spare"]
    assert shown["hosts"]["home"]["stamp"]["when"] == "2026-11-03T20:05:09+00:00"
    assert shown["hosts"]["home"]["changes"][0] == {
        "component": "Ollama",
        "what": "file /etc/x",
        "would_be": "written",
        "why": "its content differs",
        "diff": ["--- on the host", "-old", "+new"],
    }
    assert shown["hosts"]["laptop"]["stamp"] is None and shown["hosts"]["spare"]["changes"] == []


def test_another_revision_alone_is_no_difference() -> None:
    then = Deployed("fedcba987654", "bbbbbbbbbbbb", {**HERE.programs, "tailscale": "1.100.0", "ollama": "0.32.15"})
    drift_of_one = HostDrift("home", Stamp(then, WHEN), HERE, ())
    head, rest, _, last = said(drift_of_one)
    assert "revision fedcba987654, here 0123456789ab; other settings than here" in head
    assert head.endswith("ollama 0.32.15, here none; tailscale 1.100.0, here 1.102.3")
    assert rest.strip() == "only the stamp differs; the next run writes it anew"
    assert last == "Nothing differs on home."
    assert not as_json([drift_of_one])["differs"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(drift, "REPOSITORY", tmp_path)
    for name, value in (("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")):
        monkeypatch.setenv(name, value)
    return tmp_path


def test_the_revision_is_the_commit_and_says_whether_code_was_changed_after_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@house.internal", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (repository / "group_data").mkdir()
    for name in ("deploy.py", "inventory.py", "inventory_mine.py", "our_house.py", "group_data/all.py"):
        (repository / name).write_text("")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")[:12]
    # Settings do not count, because they have their own digest. Files that git does not know do not count either.
    begin_run(CommandLine(inventory="our_house.py"))
    for name in ("inventory.py", "inventory_mine.py", "our_house.py", "group_data/all.py", "notes.txt"):
        (repository / name).write_text("changed")
    assert drift.revision() == commit
    (repository / "deploy.py").write_text("changed")
    begin_run()
    assert drift.revision() == f"{commit}+"


def test_without_git_the_revision_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drift.revision() == UNKNOWN
    begin_run()
    monkeypatch.setenv("PATH", str(repository))
    assert drift.revision() == UNKNOWN


@operation()
def _says(change: bool) -> Generator[StringCommand, None, None]:
    if change:
        differs(Change("a thing", "made", "it is missing"))
        yield StringCommand("false")


@operation()
def _silent() -> Generator[StringCommand, None, None]:
    yield StringCommand("false")


@pytest.fixture
def planning() -> Iterator[State]:
    """A run on this machine that only plans."""
    state = State(check_for_changes=True)
    state.init(Inventory((["@local"], {})), None)  # type: ignore[no-untyped-call]
    connect_all(state)
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host("@local")):
        yield state


def test_no_operation_that_would_change_something_is_left_out(planning: State) -> None:
    add_op(planning, _says, change=False, name="Base | Fine")
    assert not changed()
    add_op(planning, _says, change=True, name="Base | Says what")
    add_op(planning, _silent, name="Base | Says nothing")
    assert changed()
    assert list(planned(planning.inventory.get_host("@local"))) == [
        ("Base | Says what", (Change("a thing", "made", "it is missing"),)),
        ("Base | Says nothing", (Change("Base | Says nothing", "carried out"),)),
    ]


def test_a_stamp_is_written_when_it_would_say_something_else_or_something_changes(planning: State) -> None:
    def written(before: Stamp | None) -> bool:
        [meta] = add_op(planning, stamped, what=HERE, before=before, name="Drift | Stamp").values()
        # The operation is removed again: if it changes something, that would influence the next ones.
        planning.ops[planning.inventory.get_host("@local")].popitem()
        return bool(meta.will_change)

    assert not written(Stamp(HERE, WHEN))
    assert written(None)
    assert written(Stamp(replace(HERE, revision="0123456789ab+"), WHEN))
    assert written(Stamp(replace(HERE, settings="bbbbbbbbbbbb"), WHEN))
    assert written(Stamp(replace(HERE, programs={"pyinfra": "3.10.0"}), WHEN))
    add_op(planning, _silent, name="Base | Something")
    assert written(Stamp(HERE, WHEN))


@pytest.mark.parametrize("arguments", [(), ("-y",), ("-y", "--fail-percent", "100"), ("--limit", "nobody")])
def test_a_look_that_comes_to_no_answer_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    data = '{"ssh_hostname": "127.0.0.1", "ssh_port": 1, "ssh_look_for_keys": False}'
    inventory = tmp_path / "inventory.py"
    inventory.write_text(f'coordinator = gateway = model_hosts = [("home", {data})]\n')
    command = [str(Path(sys.executable).parent / "pyinfra"), *arguments, str(inventory), "playbooks/diff.py"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
