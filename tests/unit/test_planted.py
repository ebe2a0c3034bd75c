"""If an account has put links into its own folder, root does not follow them. The real scripts run here, with such
links."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pyinfra.api import FunctionCommand, StringCommand

from facts.ollama import Ollama, OllamaModels
from operations import ollama
from operations.ca.server import install_script, request_script
from operations.engine.component import install_files, pack
from operations.engine.shell import below, inside, into_place
from plan.engine.want import Directory
from plan.house.house import House
from tests.unit import houses
from tests.unit.fakes import Fake, context, deployed

WEIGHTS, MANIFEST = b"weights", b"{}"
BLOB = f"sha256-{hashlib.sha256(WEIGHTS).hexdigest()}"
NAME = "registry.ollama.ai/library/tiny/1b"
#: The account that runs the test. It stands for the service's account, to which root gives files.
UID, GID = str(os.getuid()), str(os.getgid())


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder of the system, with a file, which no account may change."""
    found = tmp_path / "system"
    found.mkdir(mode=0o700)
    (found / "shadow").write_text("kept")
    (found / "shadow").chmod(0o600)
    return found


def untouched(system: Path) -> bool:
    modes = [path.stat().st_mode & 0o777 for path in (system, system / "shadow")]
    names = [path.name for path in system.iterdir()]
    return (modes, names, (system / "shadow").read_text()) == ([0o700, 0o600], ["shadow"], "kept")


def lay_down(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the operation that installs a model, on a host whose /var/lib is `root`. Its uploads arrive there."""
    here = Fake("brain", {Ollama: OllamaModels({}, "", {})})
    inner: Any = ollama.model._inner
    sent = {"weights": WEIGHTS, "manifest": MANIFEST}
    with context(here, {"brain": here}):
        blobs = [(BLOB, len(WEIGHTS), Path("weights"))]
        digest = hashlib.sha256(MANIFEST).hexdigest()
        commands = list(inner("tiny:1b", NAME, Path("manifest"), digest, blobs, {}, 11434))
    for command in commands:
        if isinstance(command, FunctionCommand):
            incoming = root / "ollama/.private-ai-incoming"
            incoming.mkdir(mode=0o700, exist_ok=True)
            (incoming / command.args[1]).write_bytes(sent[command.args[0].name])
        elif isinstance(command, StringCommand):
            text = str(command).replace("/var/lib", str(root)).replace("ollama:ollama", f"{UID}:{GID}")
            text = text.replace("-o ollama -g ollama", f"-o {UID} -g {GID}")
            done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, cwd="/")
            if done.returncode:
                return done
    return done


def test_a_model_gets_into_its_place(tmp_path: Path) -> None:
    (tmp_path / "ollama").mkdir()
    for _ in range(2):
        done = lay_down(tmp_path)
        assert done.returncode == 0, done.stderr
        store = tmp_path / "ollama/models"
        assert (store / "blobs" / BLOB).read_bytes() == WEIGHTS
        assert (store / "manifests" / NAME).read_bytes() == MANIFEST
        assert {path.stat().st_mode & 0o777 for path in store.rglob("*") if path.is_dir()} == {0o755}
        assert not (tmp_path / "ollama/.private-ai-incoming").exists()


@pytest.mark.parametrize("planted", ["models", "models/blobs", "models/manifests", f"models/manifests/{NAME[:18]}"])
def test_a_model_goes_through_no_link_of_the_account(tmp_path: Path, system: Path, planted: str) -> None:
    link = tmp_path / "ollama" / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(system)
    done = lay_down(tmp_path)
    assert untouched(system)
    assert done.returncode == 1 and "is not a folder, or lies behind a link. Next: " in done.stderr


def test_a_link_in_the_place_of_a_model_s_file_is_replaced(tmp_path: Path, system: Path) -> None:
    for place in (f"blobs/{BLOB}", f"manifests/{NAME}"):
        (tmp_path / "ollama/models" / place).parent.mkdir(parents=True)
        (tmp_path / "ollama/models" / place).symlink_to(system / "shadow")
    assert lay_down(tmp_path).returncode == 0
    assert untouched(system)
    assert (tmp_path / "ollama/models/blobs" / BLOB).read_bytes() == WEIGHTS


def make(*directories: Directory) -> subprocess.CompletedProcess[str]:
    script = install_files(directories, ())
    return subprocess.run(["sh", "-c", script], input=pack(()), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("to", [".", "shadow", "nowhere"])
def test_a_folder_is_not_given_away_through_a_link(tmp_path: Path, system: Path, to: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/state").symlink_to(system / to)
    done = make(Directory(str(tmp_path / "home/state"), UID, GID, "0755"))
    assert untouched(system)
    assert done.returncode == 1
    assert f"{tmp_path}/home/state is not a folder, or lies behind a link. Next: " in done.stderr


def test_a_folder_is_made_below_a_link_of_root_s(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "lib").symlink_to(tmp_path / "disk")
    odd = "it's a folder"
    for mode in ("0750", "0700"):
        done = make(*(Directory(f"{tmp_path}/lib/new/{name}", UID, GID, mode) for name in (odd, f"{odd}/within")))
        assert done.returncode == 0, done.stderr
        for made in (tmp_path / "disk/new" / odd, tmp_path / "disk/new" / odd / "within"):
            assert made.stat().st_mode & 0o777 == int(mode, 8)


def test_systemd_run_finds_nothing_of_its_own_in_these_pieces_of_shell() -> None:
    """systemd-run replaces ${NAME} by a variable of its environment, also inside quotes (systemd.service(5))."""
    for piece in (inside("/var/lib/x/y"), below("/var/lib", ("x", "y"), "o", "g", "0755"), into_place("a", "b")):
        assert "${" not in piece


def test_what_is_no_folder_ends_the_script_where_it_stands(tmp_path: Path, system: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").symlink_to(system)
    script = f"{below(str(tmp_path), ('a', 'b', 'c'), UID, GID, '0755')}; touch here"
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=False, cwd=tmp_path).returncode == 1
    assert untouched(system) and not (tmp_path / "here").exists()


def test_a_certificate_is_written_through_no_link(tmp_path: Path, system: Path) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("key.new", "cert.new", "key.pem", "cert.pem"):
        (tls / name).symlink_to(system / "shadow")
    made = request_script(str(tls), UID, "DNS:home.house.internal")
    subprocess.run(["sh", "-c", made], check=False, capture_output=True)
    assert untouched(system)
    subprocess.run(["sh", "-c", install_script(str(tls), UID)], input=b"none", check=False, capture_output=True)
    assert untouched(system)


def parents(path: str) -> Iterable[str]:
    return map(str, PurePosixPath(path).parents)


@pytest.mark.parametrize("house", [houses.single(), houses.split()])
def test_root_writes_nothing_into_a_folder_of_an_account(house: House) -> None:
    """Only root can put anything into the folders to which the deployment writes files."""
    for here in deployed(house).values():
        directories = {each.path: each.owner for want in here.wants for each in want.directories}
        own = {path for path, owner in directories.items() if owner != "root"}
        own |= {account.home for want in here.wants for account in want.accounts}
        written = [each.path for want in here.wants for each in want.files]
        written += [each.path for want in here.wants for each in want.secrets]
        written += [each.path for want in here.wants for each in want.blocks]
        written += [link for want in here.wants for program in want.programs for link, _ in program.links]
        assert written
        assert [path for path in written if own.intersection(parents(path))] == []
        # Only a folder directly below an account's own folder is allowed: `below` makes it.
        assert [path for path in directories if own.intersection(list(parents(path))[1:])] == []
        scripts = [text for text in here.commands if "openssl req -new" in text]
        for text in scripts:
            folder = text.split("cd ", 1)[1].split("\n", 1)[0]
            assert directories.get(folder) == "root", folder
