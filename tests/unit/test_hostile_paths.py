"""Paths and the environment: folders with spaces and quotes, make's variables, ssh's configuration."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifacts import cache
from artifacts.errors import ArtifactError
from artifacts.fetch import mirrored
from artifacts.models import registry
from lab import access, machine, network
from lab.hosts import lab_host
from lab.state import State
from lab.topology import Lab
from plan.engine.errors import SettingError
from tests.unit.hostile import arguments, as_argument, fewer, near, texts, values
from tests.unit.houses import SETTINGS
from tests.verify.inventory import place, ssh_config, subject

ROOT = Path(__file__).parents[2]
#: Names of folders. The project may be in a folder of GOOD. In a folder of BAD, its first step says what is wrong.
GOOD = ("a b", "it's", "a;b", "a&b", "[a]", "(a)", "é😀", "-x", "~x", "a#b", "a*b", "a{b,c}", "a=b", "a,b", "a|b", "!x")
BAD = ('a"b', "a\\b", "a$HOME", "a`b", "a%h", "a:b", "a\nb", "a\x1b[2J")
folders = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


def clone(folder: Path) -> Path:
    """A copy of the files that make and the lab's scripts need, with programs that record their arguments."""
    (folder / "lab").mkdir(parents=True)
    for name in ("Makefile", "lab/ssh", "lab/bootstrap", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("pyinfra", "pytest", "python"):
        (programs / name).write_text('#!/bin/dash\nprintf "%s\\0" "${0##*/}" "$@" >> log\n')
        (programs / name).chmod(0o755)
    (folder / ".venv/ready").touch()
    return folder


def told(folder: Path, *command: str, **environment: str) -> list[str]:
    """The arguments of the only program that a command has started."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    env = {name: text for name, text in os.environ.items() if name not in ("INVENTORY", "MESSAGE", "TOPOLOGY", "LAB")}
    done = subprocess.run(command, cwd=folder, env=env | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.fsdecode(log.read_bytes()).split("\0")[:-1]


@pytest.fixture(scope="module")
def house() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield clone(Path(folder, "it's a house"))


@fewer(4)
@given(arguments, st.booleans())
@example("costs $5, $(shell echo pwned) `x` # y", True)
@example("two\nlines\\", False)
def test_a_message_passes_through_make(house: Path, text: str, typed: bool) -> None:
    words = ["make", "--no-print-directory", "chat"]
    call = told(house, *words, f"MESSAGE={text}") if typed else told(house, *words, MESSAGE=text)
    # make removes spaces and line ends before a value.
    said = text.lstrip(" \t\n\v\f\r") if typed else text
    assert call == ["pyinfra", "-y", "--data", f"message={said}", "--", "inventory.py", "playbooks/chat.py"]


@fewer(4)
@given(arguments.filter(str.strip), st.booleans())
@example("my house's; inventory.py", True)
@example("-x.py", False)
@example("$(shell touch pwned).py", True)
def test_an_inventory_passes_through_make(house: Path, name: str, typed: bool) -> None:
    for target, wanted in (
        ("deploy", ["pyinfra", "-y", "--", "{}", "deploy.py"]),
        ("verify", ["pytest", "tests/verify", "--inventory={}"]),
    ):
        words = ["make", "--no-print-directory", target]
        call = told(house, *words, f"INVENTORY={name}") if typed else told(house, *words, INVENTORY=name)
        said = name.lstrip(" \t\n\v\f\r") if typed else name
        assert call == [each.replace("{}", said) for each in wanted]
    assert not (house / "pwned").exists()


@fewer(4)
@given(arguments)
@example("split")
@example("$(shell touch pwned)")
def test_a_topology_names_an_inventory_and_does_nothing_else(house: Path, name: str) -> None:
    call = told(house, "make", "--no-print-directory", "deploy", TOPOLOGY=name)
    assert call[3] == ("inventory_split.py" if "split" in name.split() else "inventory.py")
    assert not (house / "pwned").exists()


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_the_project_may_lie_anywhere_or_its_first_step_says_why_not(name: str, tmp_path: Path) -> None:
    folder = clone(tmp_path / name)
    (folder / ".venv/ready").unlink()
    stand_in = folder / ".venv/bin/python"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    shutil.copy(stand_in, tmp_path / "python3")
    done = subprocess.run(["lab/bootstrap"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if name in BAD:
        assert done.returncode == 2 and "Next: move it" in done.stderr and done.stderr.rstrip("\n").isprintable()
        assert not (folder / "log").exists()
        return
    assert done.returncode == 0 and (folder / ".venv/ready").exists(), done.stderr
    assert told(folder, "make", "--no-print-directory", "deploy")[0] == "pyinfra"
    made = Lab("demo")
    state = State(folder / ".lab/demo")
    state.directory.mkdir(parents=True)
    access.write_ssh_config(made, state)
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(state.ssh_config), "home"], capture_output=True, text=True, check=True
    )
    assert f"identityfile {state.ssh_key}\n" in shown.stdout and "hostname 10.77.0.11\n" in shown.stdout
    access.close_connections(state)
    said = subprocess.run(
        ["lab/ssh", "home", "x"], cwd=folder, env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | _ssh(tmp_path), check=True
    )
    assert said.returncode == 0
    assert (tmp_path / "told").read_text().split("\0")[:3] == ["-F", f"{folder}/lab/../.lab/demo/ssh_config", "home"]


def _ssh(folder: Path) -> dict[str, str]:
    (folder / "ssh").write_text(f'#!/bin/dash\nprintf "%s\\0" "$@" > "{folder}/told"\n')
    (folder / "ssh").chmod(0o755)
    return {}


@fewer(2)
@given(near("demo").map(as_argument) | arguments)
@example("../../etc")
@example("-x")
@example("demo\n")
def test_the_name_of_a_lab_is_looked_at_before_it_becomes_a_path(house: Path, name: str) -> None:
    if name == "":
        return
    with patch.dict(os.environ, {"LAB": name}):
        try:
            lab_host("home")
        except SettingError as error:
            assert str(error).isprintable()
            done = subprocess.run(
                ["lab/ssh", "home"], cwd=house, env=os.environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 2 and "accepted: 1 to 16" in done.stderr
            return
    assert State.of(name).directory.parent == ROOT / ".lab"


def test_a_lab_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lab").mkdir()
    (tmp_path / "elsewhere").mkdir()
    State(tmp_path / "elsewhere").write_lab(Lab("demo"))
    monkeypatch.setattr("lab.state.REPOSITORY", tmp_path)
    monkeypatch.setenv("LAB", "../elsewhere")
    with pytest.raises(SettingError, match="beginning with a letter"):
        lab_host("home")


@given(near("77").map(as_argument) | arguments)
def test_the_number_of_a_lab(number: str) -> None:
    with patch.dict(os.environ, {"LAB_NET": number, "LAB": "fuzz"}):
        try:
            _, data = lab_host("home")
        except SettingError as error:
            assert str(error).isprintable()
            return
    assert data["ssh_hostname"].count(".") == 3


SSH = ("ssh_hostname", "ssh_port", "ssh_user", "ssh_key", "ssh_known_hosts_file", "ssh_config_file")


@fewer(2)
@given(st.sampled_from(SSH), near("192.0.2.7", "22", "root", "/home/me/.ssh/key") | values)
@example("ssh_hostname", "-oProxyCommand=reboot")
@example("ssh_hostname", "22")
@example("ssh_hostname", "127.1")
@example("ssh_user", "root\n  ProxyCommand reboot")
@example("ssh_key", '/a "b" \\c/key')
@example("ssh_key", "~root")
@example("ssh_key", "~/a key")
@example("ssh_known_hosts_file", "~root")
@example("ssh_known_hosts_file", "~nobody-of-that-name/hosts")
@example("ssh_known_hosts_file", "~/known hosts")
def test_what_an_inventory_says_about_ssh_changes_nothing_else_in_its_configuration(key: str, value: Any) -> None:
    data = {"ssh_hostname": "192.0.2.7", "ssh_user": "me", "ssh_port": 2222, key: value}
    try:
        at = place("hub", data)
    except SettingError as error:
        assert key in error.setting and str(error).isprintable()
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        config = Path(folder, "config")
        config.write_text(ssh_config([at], Path(folder)), encoding="utf-8", errors="surrogateescape")
        done = subprocess.run(["ssh", "-G", "-F", str(config), at.address], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.decode(errors="surrogateescape").split("\n") if " " in line)
    assert "proxycommand" not in found and found["stricthostkeychecking"] == "true"
    wanted = {"hostname": at.address.lower(), "user": at.user, "port": at.port}
    wanted |= {"identityfile": at.key} if at.key else {}
    wanted |= {"userknownhostsfile": at.known_hosts} if at.known_hosts else {}
    assert {name: found[name] for name, text in wanted.items() if text} == {
        n: text for n, text in wanted.items() if text
    }


@fewer(4)
@given(folders)
@example("[a]")
@example("a\\b")
def test_a_configuration_of_ssh_is_included_whatever_it_is_called(name: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        mine, config = Path(folder, name), Path(folder, "config of ours")
        if mine == config:
            return
        mine.write_text("Host *\n  HostKeyAlias included\n")
        try:
            at = place("hub", {"ssh_hostname": "192.0.2.7", "ssh_config_file": str(mine)})
        except SettingError as error:
            assert "%" in name or "${" in name or not name.isprintable()
            assert str(error).isprintable()
            return
        config.write_text(ssh_config([at], Path(folder)))
        done = subprocess.run(["ssh", "-G", "-F", str(config), "192.0.2.7"], capture_output=True, text=True, check=True)
    assert "hostkeyalias included\n" in done.stdout


@given(near("neighbour") | texts)
@example("-oProxyCommand=reboot")
def test_a_machine_outside_is_no_option_of_ssh(outside: str) -> None:
    data = {**SETTINGS, "ssh_hostname": "192.0.2.7"}
    hosts = [{"name": "hub", "groups": ["coordinator", "gateway", "model_hosts"], "data": data}]
    try:
        made = subject("mine.py", hosts, [], outside)
    except SettingError as error:
        assert "--outside" in error.setting and str(error).isprintable()
        return
    assert not outside.startswith("-") and made.named_outside == outside


@pytest.mark.parametrize("name", ["coordinator.py", "clients", "my.house.py", "a b/it's.py"])
def test_an_inventory_may_be_called_anything(name: str) -> None:
    data = {**SETTINGS, "ssh_hostname": "192.0.2.7"}
    own = Path(name).name.rsplit(".", 1)[0]
    groups = ["coordinator", "gateway", "model_hosts", *([own] if own not in ("coordinator", "clients") else [])]
    made = subject(name, [{"name": "hub", "groups": groups, "data": data}], [])
    assert made.house.coordinator.name == "hub"


@given(folders)
def test_mount_points_are_found_by_their_names(name: str) -> None:
    """The kernel writes only spaces and backslashes as numbers."""
    path = f"/srv/{name}/.lab/demo/network"
    written = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in path)
    line = f"36 35 0:4 net:[1] {written} rw - nsfs nsfs rw\n"
    with patch.object(Path, "read_text", lambda *_, **__: line):
        assert network.mounts_below(Path(path).parent) == [path]


@given(arguments)
@example("relative/cache")
@example("/a:b")
def test_the_cache_lies_where_the_environment_says_or_is_refused(folder: str) -> None:
    with patch.dict(os.environ, {"XDG_CACHE_HOME": folder}):
        root = cache.root()
        assert root.is_absolute() and machine.cache() == root / "lab"
        if folder.startswith("/"):
            assert root == Path(folder) / "private-ai"
    with tempfile.TemporaryDirectory() as real:
        below = Path(real) / folder.replace("/", "_")[:60].encode()[:200].decode(errors="ignore")
        with patch.dict(os.environ, {"XDG_CACHE_HOME": str(below)}):
            try:
                with cache.lock(print):
                    assert not set(str(below)) & set('";:|\\\n\t\r\x1b')
            except ArtifactError as error:
                assert str(error).isprintable() and "XDG_CACHE_HOME" in str(error)
                assert not below.exists() or below == Path(real)


@given(near("http://127.0.0.1:9/mirror", "https://[::1]:9", "https://mirror.example").map(as_argument) | arguments)
@example("file:///etc")
@example("http://[x")
@example("http://a b")
def test_a_mirror_or_registry_is_an_address_or_an_error(url: str) -> None:
    with patch.dict(os.environ, {"PRIVATE_AI_RELEASE_MIRROR": url, "PRIVATE_AI_OLLAMA_REGISTRY": url}):
        try:
            asked = (mirrored("https://github.com/x?y=z"), f"{registry()}/v2/")
        except ArtifactError as error:
            assert str(error).isprintable() and "PRIVATE_AI_" in str(error)
            return
    for address in asked:
        parts = urlsplit(address)
        assert parts.scheme in ("http", "https") and parts.hostname and not parts.fragment
        assert address.isascii() and address.isprintable() and " " not in address
        http.client.HTTPConnection("127.0.0.1")._validate_path(parts.path)  # type: ignore[attr-defined]
