"""The OpenClaw image as one file that `podman load` takes, named localhost/openclaw:VERSION.

Built from locked npm packages on a bare Debian, or copied from the project's registry by digest. Both have the user
node (1000), /home/node, the working folder /app, tini, and `openclaw` in PATH, so that the same unit runs either.
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

# Not needed to run: maps and types for developers (TypeScript itself needs its own), programs for other systems.
# Licences stay, and so does OpenClaw's documentation, which the agent reads.
_LEFT_OUT = re.compile(
    r"\.map$ | ^(?!node_modules/typescript/).*\.d\.[cm]?ts$ | /prebuilds/(darwin|win32)- | /koffi-linux-\w+/musl_",
    re.VERBOSE,
)


def image_name(cpu: str) -> str:
    """The name under which the image is loaded."""
    return f"localhost/openclaw:{pins.program('openclaw', cpu).version}"


def build_openclaw(cpu: str, staged: Path, board: Board) -> None:
    """image/openclaw.oci.tar from npm's and Debian's packages; only for this machine's own CPU type."""
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
    """The locked packages in app/node_modules, their install scripts run, the lifecycle complete."""
    app.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(HERE / "build/openclaw" / name, app / name)
    # OpenClaw's install script runs under the first `node` in PATH and refuses other versions than the pinned one.
    home = app.parent / "home"
    env = {"PATH": f"{node}:{os.environ['PATH']}", "NODE_ENV": "production"}
    command = [str(node / "npm"), "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=http"]
    run(command, stage, "npm-openclaw", cwd=app, env=env)
    # The first call finishes what the install script began; a read-only container could not. Its own HOME keeps it
    # away from an OpenClaw of the person who builds.
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
    """A bare Debian as an uncompressed tar: no package manager's lists, no manuals, no set-uid programs."""
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
        env={"SOURCE_DATE_EPOCH": "0"},  # the same packages then give the same layer
    )
    with tar.open("rb") as file:
        shutil.copyfileobj(file, sink, 1 << 20)
    tar.unlink()


def _mirrors(suite: str) -> list[str]:
    """Where this machine's apt gets Debian from, for another suite; empty (mmdebstrap's own choice) elsewhere."""
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
    """The proxies that this machine's apt uses; mmdebstrap starts from an empty apt configuration."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in dump.splitlines() if re.match(r"Acquire::https?::Proxy ", line)]
    return [f"--aptopt={line}" for line in lines]


def _pack(sink: IO[bytes], app: Path, node: Path) -> None:
    """The layer above Debian: Node.js, OpenClaw with what it needs, and the state folder. Times are left at 0."""
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
    """Add a file, folder or link as root's, writable by nobody else, with no time of its own."""
    info = tar.gettarinfo(path, name)
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = mode if mode is not None else 0o755 if path.is_dir() or info.mode & 0o100 else 0o644
    if path.is_file() and not path.is_symlink():
        # Also a second name of one file becomes a file: what it would point to may have been left out.
        info.type, info.size = tarfile.REGTYPE, path.stat().st_size
        with path.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)


def fetch_openclaw(cpu: str, staged: Path, stage: Stage) -> None:
    """image/openclaw.oci.tar from the project's registry: every part verified against the pinned digest."""
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
        file.unlink()  # the archive has them now
