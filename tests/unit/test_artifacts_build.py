"""The parts that all builds use: how a failed command is reported, and what goes into the image's layer."""

from __future__ import annotations

import io
import os
import platform
import tarfile
import threading
from pathlib import Path

import pytest

from artifacts import cache, image, oci, packages, pins, run
from artifacts.errors import ArtifactError, CommandError
from artifacts.progress import Board, Stage


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_failed_command_shows_its_last_lines_and_where_the_rest_is(tmp_path: Path) -> None:
    stage = Stage("compiler")
    with pytest.raises(CommandError) as error:
        run.run(["sh", "-c", "seq 30; echo broken >&2; exit 3"], stage, "compiler")
    said = str(error.value)
    log = tmp_path / "cache/private-ai/logs/compiler.log"
    assert "compiler: sh ended with status 3" in said and str(log) in said
    assert said.count("  | ") == 20 and "  | broken" in said and "  | 12" in said and "  | 11\n" not in said
    assert "\n1\n2\n3\n" in log.read_text()
    assert stage.text == "broken"


def test_a_command_that_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match="no-such-program cannot be run"):
        run.run(["no-such-program"], Stage("compiler"), "compiler")


def test_variables_are_added_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    assert run.run(["sh", "-c", "echo $KEPT $ADDED"], Stage("s"), "s", env={"ADDED": "added"}) == "kept added"


def test_the_image_holds_what_runs_and_nothing_that_others_can_write(tmp_path: Path) -> None:
    app = tmp_path / "app"
    kept = [
        "node_modules/openclaw/openclaw.mjs",
        "node_modules/openclaw/docs/reference.md",
        "node_modules/part/LICENSE",
        "node_modules/typescript/lib/lib.d.ts",
        "node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node",
        "node_modules/@lydell/node-pty-linux-x64/prebuilds/linux-x64/pty.node",
    ]
    left_out = [
        ".npmrc",
        "node_modules/part/index.js.map",
        "node_modules/part/index.d.ts",
        "node_modules/part/index.d.mts",
        "node_modules/@koromix/koffi-linux-x64/musl_x64/koffi.node",
        "node_modules/part/native/prebuilds/darwin-arm64/part.node",
    ]
    for name in kept + left_out:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(name)
        (app / name).chmod(0o666)
    (app / "node_modules/.bin").mkdir()
    (app / "node_modules/.bin/openclaw").symlink_to("../openclaw/openclaw.mjs")
    (tmp_path / "node").write_bytes(b"node")
    (tmp_path / "node").chmod(0o755)

    def pack() -> bytes:
        sink = io.BytesIO()
        image._pack(sink, app, tmp_path / "node")
        return sink.getvalue()

    with tarfile.open(fileobj=io.BytesIO(pack())) as layer:
        members = {member.name: member for member in layer}
    files = {name.removeprefix("app/") for name, member in members.items() if member.isfile()}
    assert files == {*kept, "usr/local/bin/node", "usr/local/bin/openclaw"}
    assert members["app/openclaw.mjs"].linkname == "node_modules/openclaw/openclaw.mjs"
    assert members["app/node_modules/.bin/openclaw"].linkname == "../openclaw/openclaw.mjs"
    assert members["usr/local/bin/node"].mode == 0o755
    for name, member in members.items():
        owner = 1000 if name.startswith("home/node") else 0
        assert (member.uid, member.gid, member.mtime) == (owner, owner, 0), name
        assert member.issym() or not member.mode & 0o022, name
    assert pack() == pack()


def test_nothing_is_begun_when_the_run_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_ending", threading.Event())
    run.end_all()
    with pytest.raises(CommandError, match="compiler: not begun, the run is being ended"):
        run.run(["true"], Stage("compiler"), "compiler")


def test_packages_that_are_missing_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ArtifactError, match="Debian packages are missing; next: sudo apt-get install no-such-package"):
        run.ensure_packages(["no-such-package"], Board())


def test_another_system_than_debian_is_told_what_to_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArtifactError, match="this is not a Debian or Ubuntu machine; install what provides: zstd"):
        run.ensure_packages(["zstd"], Board())


def test_a_cpu_for_which_nothing_is_pinned_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ArtifactError, match="this machine's CPU type is riscv64; programs are pinned for amd64, arm64"):
        packages.this_cpu()


def test_a_layer_that_cannot_be_written_is_said() -> None:
    with pytest.raises((ArtifactError, OSError)) as error:
        oci.layer(Path("/dev/full"), lambda sink: None)
    assert "/dev/full: zstd ended with status" in str(error.value)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_packages_without_their_programs_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    pinned = pins.load().packages
    for name in ("go", "npm"):
        (cache.folder("work") / f"{pinned[name].name}-{pinned[name].version}").mkdir()
    with pytest.raises(ArtifactError, match="no Go in this package; next: install Go 1"):
        packages.go(packages.HERE / "build/headscale", Stage("go"))
    with pytest.raises(ArtifactError, match="no npm in this package; next: apt-get install npm"):
        packages._any_npm(Stage("npm"))


@pytest.mark.parametrize(
    ("says", "also", "said"),
    [
        ("echo 2020.1.1", "", "openclaw --version says '2020.1.1' instead of "),
        (
            f"echo {pins.program('openclaw', 'amd64').version}",
            "mkdir -p node_modules/openclaw; touch node_modules/openclaw/.openclaw-lifecycle-pending",
            "openclaw's installation is not complete: its marker is still there",
        ),
    ],
)
def test_an_openclaw_that_is_not_the_one_that_was_meant_is_refused(
    tmp_path: Path, says: str, also: str, said: str
) -> None:
    node, app = tmp_path / "bin", tmp_path / "app"
    program(node / "node", says)
    program(node / "npm", also or "true")
    with pytest.raises(ArtifactError, match=said):
        image._install(app, node, Stage("npm"), "amd64")
