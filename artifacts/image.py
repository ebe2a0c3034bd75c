"""Makes the OpenClaw image as one file for `podman load`, with the name localhost/openclaw:VERSION.

It is built from locked npm packages on a minimal Debian, or copied from the project's registry by digest. Both images
have the user node (1000), /home/node, the working folder /app, tini, and `openclaw` in PATH, so the same unit runs
both.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from artifacts import cache, oci, packages, pins
from artifacts.errors import ArtifactError
from artifacts.progress import Board, Stage
from artifacts.registry import INDEX_TYPES, Repository
from artifacts.run import run

HERE = Path(__file__).resolve().parent
FILE = "image/openclaw.oci.tar"  # below the program's folder in the cache

# Files that OpenClaw does not need to run: maps and types for developers (except TypeScript's own types), programs for
# other systems. Licences stay. OpenClaw's documentation stays too, because the agent reads it.
_LEFT_OUT = re.compile(
    r"\.map$ | ^(?!node_modules/typescript/).*\.d\.[cm]?ts$ | /prebuilds/(darwin|win32)- | /koffi-linux-\w+/musl_",
    re.VERBOSE,
)


def image_name(cpu: str) -> str:
    """The name that the image gets when Podman loads it."""
    return f"localhost/openclaw:{pins.program('openclaw', cpu).version}"


def build_openclaw(cpu: str, staged: Path, board: Board) -> None:
    """Makes image/openclaw.oci.tar from npm's and Debian's packages. Only for this machine's CPU type."""
    with cache.staging(cache.root() / "work/openclaw") as work:
        with board.stage("OpenClaw packages") as stage:
            node = packages.node(stage)
            _install(work / "app", node, stage, cpu)
        with board.stage("OpenClaw base system") as stage:
            base = oci.layer(work / "base.tar.zst", lambda sink: _debian(sink, work, stage))
        with board.stage("OpenClaw image") as stage:
            stage.text = "packing"
            program = (node / "node").resolve()
            app = oci.layer(work / "app.tar.zst", lambda sink: _pack(sink, work / "app", program))
            config = {
                "User": "node",
                "WorkingDir": "/app",
                "Entrypoint": ["/usr/bin/tini", "-s", "--"],
                "Cmd": ["node", "openclaw.mjs", "gateway"],
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/node", "NODE_ENV=production"],
            }
            (staged / "image").mkdir()
            oci.write_image(staged / FILE, image_name(cpu), cpu, config, [base, app])


def _install(app: Path, node: Path, stage: Stage, cpu: str) -> None:
    """Installs the locked packages in app/node_modules, and completes OpenClaw's installation."""
    app.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(HERE / "build/openclaw" / name, app / name)
    # OpenClaw's install script uses the first `node` in PATH, and refuses versions of Node.js that it does not support.
    home = app.parent / "home"
    env = {"PATH": f"{node}:{os.environ['PATH']}", "NODE_ENV": "production"}
    command = [str(node / "npm"), "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=http"]
    run(command, stage, "npm-openclaw", cwd=app, env=env)
    # OpenClaw's first call completes what the install script began. In a read-only container that would fail. It gets a
    # HOME of its own, so that it does not touch an OpenClaw of the person who builds.
    home.mkdir()
    version = pins.program("openclaw", cpu).version
    said = run(
        [str(node / "node"), str(app / "node_modules/openclaw/openclaw.mjs"), "--version"],
        stage,
        "npm-openclaw",
        cwd=app,
        env=env | {"HOME": str(home)},
    )
    if version not in said:
        raise ArtifactError(f"openclaw --version says {said!r} instead of {version}")
    if (app / "node_modules/openclaw/.openclaw-lifecycle-pending").exists():
        raise ArtifactError("openclaw's installation is not complete: its marker is still there")


def _debian(sink: IO[bytes], work: Path, stage: Stage) -> None:
    """Writes a minimal Debian as an uncompressed tar: without lists of packages, manuals and set-uid programs."""
    tar = work / "base.tar"
    excluded = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"]
    hooks = [
        'echo node:x:1000:1000::/home/node:/bin/sh >>"$1/etc/passwd"',
        'echo node:x:1000: >>"$1/etc/group"',
        'find "$1" -xdev -type f -perm /6000 -exec chmod a-s {} +',
        'rm -rf "$1"/var/log/* "$1"/var/cache/ldconfig/aux-cache',
    ]
    suite = pins.load().image_suite
    run(
        [
            *("mmdebstrap", "--variant=essential", "--include=ca-certificates,tini,libstdc++6,libatomic1"),
            *(f"--dpkgopt=path-exclude={path}" for path in excluded),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            *(f"--customize-hook={hook}" for hook in hooks),
            *_proxies(),
            *(suite, str(tar), *_mirrors(suite)),
        ],
        stage,
        "mmdebstrap",
        env={"SOURCE_DATE_EPOCH": "0"},  # so that the same packages give the same layer
    )
    with tar.open("rb") as file:
        shutil.copyfileobj(file, sink, 1 << 20)
    tar.unlink()


def _mirrors(suite: str) -> list[str]:
    """The Debian mirrors of this machine's apt, as sources for another suite. Empty on a machine without Debian
    mirrors; then mmdebstrap chooses."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Origin: Debian", "Identifier: Packages"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    mirrors: dict[str, str] = {}
    for line in answer.splitlines():
        uri, _, release = line.partition(" ")
        kind = release.partition("-")[2]  # "", "updates" or "security"
        if kind in ("", "updates", "security"):
            mirrors.setdefault(kind, uri)
    if "" not in mirrors:
        return []
    return [f"deb {uri} {suite}{'-' if kind else ''}{kind} main" for kind, uri in mirrors.items()]


def _proxies() -> list[str]:
    """Options with the proxies of this machine's apt, because mmdebstrap does not read apt's configuration."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in dump.splitlines() if re.match(r"Acquire::https?::Proxy ", line)]
    return [f"--aptopt={line}" for line in lines]


def _pack(sink: IO[bytes], app: Path, node: Path) -> None:
    """Writes the layer above Debian: Node.js, OpenClaw with its packages, and the state folder. All times are 0."""
    wrapper = b'#!/bin/sh\nexec /usr/local/bin/node /app/openclaw.mjs "$@"\n'
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "usr/local/bin/node", node)
        with tempfile.NamedTemporaryFile() as file:
            file.write(wrapper)
            file.flush()
            _add(tar, "usr/local/bin/openclaw", Path(file.name), mode=0o755)
        for folder in ("home/node", "home/node/.openclaw", "home/node/.cache"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o700, 1000, 1000
            tar.addfile(info)
        link = tarfile.TarInfo("app/openclaw.mjs")
        link.type, link.linkname, link.mode = tarfile.SYMTYPE, "node_modules/openclaw/openclaw.mjs", 0o777
        tar.addfile(link)
        for path in sorted(app.rglob("*")):
            relative = path.relative_to(app).as_posix()
            if not _LEFT_OUT.search(relative) and relative != ".npmrc":
                _add(tar, f"app/{relative}", path)


def _add(tar: tarfile.TarFile, name: str, path: Path, mode: int | None = None) -> None:
    """Adds a file, folder or link. It belongs to root, only root may write it, and its time is 0."""
    info = tar.gettarinfo(path, name)
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = mode if mode is not None else 0o755 if path.is_dir() or info.mode & 0o100 else 0o644
    if path.is_file() and not path.is_symlink():
        # A second hard link to a file becomes a file too, because the first one may have been left out.
        info.type, info.size = tarfile.REGTYPE, path.stat().st_size
        with path.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)


def fetch_openclaw(cpu: str, staged: Path, stage: Stage) -> None:
    """Makes image/openclaw.oci.tar from the project's registry. Every part is checked against the pinned digest."""
    pin = pins.program("openclaw", cpu).release[cpu]
    repository = Repository(pin.url.partition("/manifests/")[0])
    stage.text = "manifest"
    body, manifest = repository.manifest(f"sha256:{pin.sha256}")
    if manifest.get("mediaType") in INDEX_TYPES:
        digests = [
            entry["digest"]
            for entry in manifest["manifests"]
            if entry.get("platform", {}).get("architecture") == cpu and entry["platform"].get("os") == "linux"
        ]
        if not digests:
            raise ArtifactError(f"{pin.url}: the image is not made for {cpu}")
        body, manifest = repository.manifest(digests[0])
    downloads = cache.folder("downloads")
    names = [manifest["config"]["digest"], *(part["digest"] for part in manifest["layers"])]
    files = []
    for number, digest in enumerate(names, 1):
        stage.text = f"part {number} of {len(names)}"
        files.append(repository.blob(digest, downloads, stage))
    stage.done = stage.total = 0
    stage.text = "packing"
    (staged / "image").mkdir()
    media_type = manifest.get("mediaType", oci.MANIFEST_TYPE)
    oci.write_archive(staged / FILE, image_name(cpu), media_type, body, [], files)
    for file in files:
        file.unlink()  # the archive has it now
