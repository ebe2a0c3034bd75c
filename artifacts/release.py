"""Unpacks official release files. All programs get the same form: the folders bin/ and lib/."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from artifacts import cache, pins
from artifacts.errors import ArtifactError
from artifacts.fetch import fetch
from artifacts.progress import Stage

# Folders of lib/ollama that only graphics cards need: 4 GB unpacked, most of it CUDA.
GPU_FOLDERS = ("cuda", "rocm", "vulkan", "mlx")


def prepare(name: str, cpu: str, staged: Path, stage: Stage, gpu: bool = False) -> None:
    """Downloads the official file of headscale, tailscale or ollama, and unpacks it below `staged`.

    The archive stays in downloads/. So it is not downloaded again after an interruption, or for Ollama's other variant
    (with or without GPU). Raises ArtifactError when the archive does not have a file that the program needs.
    """
    file = pins.program(name, cpu).release[cpu]
    archive = fetch(
        file.url, cache.folder("downloads") / PurePosixPath(urlsplit(file.url).path).name, file.sha256, stage
    )
    stage.done = stage.total = 0
    stage.text = "unpacking"
    if name == "headscale":
        unpack_headscale(archive, staged)
    elif name == "tailscale":
        unpack_tailscale(archive, staged)
    else:
        unpack_ollama(archive, staged, gpu)


def unpack_headscale(archive: Path, staged: Path) -> None:
    """Copies Headscale's release file, which is the program itself."""
    (staged / "bin").mkdir()
    shutil.copyfile(archive, staged / "bin/headscale")
    (staged / "bin/headscale").chmod(0o755)


def unpack_tailscale(archive: Path, staged: Path) -> None:
    """Unpacks only the two programs from Tailscale's archive. We do not use the units in it."""

    def place(path: PurePosixPath) -> str | None:
        return f"bin/{path.name}" if path.name in ("tailscale", "tailscaled") and len(path.parts) == 2 else None

    with tarfile.open(archive, "r:gz") as tar:
        _extract(tar, staged, place)
    _require(staged, archive, "bin/tailscale", "bin/tailscaled")


def unpack_ollama(archive: Path, staged: Path, gpu: bool) -> None:
    """Unpacks Ollama's programs and libraries. `gpu`: with the folders for graphics cards."""

    def place(path: PurePosixPath) -> str | None:
        if path.parts[:1] not in (("bin",), ("lib",)):
            return None
        in_folder = len(path.parts) > 3 and path.parts[:2] == ("lib", "ollama")
        if in_folder and not gpu and path.parts[2].startswith(GPU_FOLDERS):
            return None
        return str(path)

    with _unzstd(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        _extract(tar, staged, place)
    # Without llama-server, Ollama starts and lists models, but fails at the first message.
    _require(staged, archive, "bin/ollama", "lib/ollama/llama-server")


@contextmanager
def _unzstd(archive: Path) -> Iterator[IO[bytes]]:
    """The archive's content as a stream, so that parts which we leave out are never written to the disk. Needs the
    program zstd."""
    with subprocess.Popen(
        ["zstd", "-dcq", "--", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            yield process.stdout
        except tarfile.TarError as error:
            raise ArtifactError(f"{archive}: cannot be unpacked: {error}") from error
        while process.stdout.read(1 << 20):  # tar stops at its end mark, but zstd has to read on to check its checksum
            pass
        complaint = process.stderr.read().decode(errors="replace").strip()
        if process.wait():
            raise ArtifactError(f"{archive}: cannot be unpacked: {complaint}")


def _extract(tar: tarfile.TarFile, staged: Path, place: Callable[[PurePosixPath], str | None]) -> None:
    """Writes those members of the archive for which `place` returns a path below `staged`. Accepts only files, and
    relative links that stay inside."""
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ArtifactError(f"the archive names a path outside its folder: {member.name!r}")
        relative = place(path)
        if relative is None or member.isdir():
            continue
        target = staged / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.isfile():
            source = tar.extractfile(member)
            assert source is not None
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            target.chmod(0o755 if member.mode & 0o111 else 0o644)
        elif member.issym() and _stays_inside(PurePosixPath(relative), member.linkname):
            target.symlink_to(member.linkname)
        elif member.islnk() and (staged / (place(PurePosixPath(member.linkname)) or "")).is_file():
            shutil.copy2(staged / (place(PurePosixPath(member.linkname)) or ""), target)
        else:
            raise ArtifactError(
                f"the archive has a member that is neither a file nor a link inside its folder: {member.name!r}"
            )


def _stays_inside(link: PurePosixPath, target: str) -> bool:
    """Whether a relative link at `link` leads to a path below the same top folder."""
    if target.startswith("/"):
        return False
    depth = len(link.parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 1:
            return False
    return True


def _require(staged: Path, archive: Path, *paths: str) -> None:
    missing = [path for path in paths if not (staged / path).is_file()]
    if missing:
        raise ArtifactError(f"{archive.name} has another layout than expected: {', '.join(missing)} not found in it")
