"""Fills the cache with programs: chooses the source and the order, and checks that the programs run."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from artifacts import build, cache, image, packages, pins, release, run, store
from artifacts.errors import ArtifactError
from artifacts.fetch import why_unreachable
from artifacts.progress import Board

# Ollama comes first, because its llama-server takes longest. The image is not here: it mostly downloads, so it is made
# at the same time as these.
COMPILED = ("ollama", "headscale", "tailscale")
BUILDERS: dict[str, Callable[[str, Path, Board], None]] = {
    "ollama": build.build_ollama,
    "headscale": build.build_headscale,
    "tailscale": build.build_tailscale,
    "openclaw": image.build_openclaw,
}
# The commands that print a program's version. They show that it runs on this CPU and has the pinned version.
VERSION_COMMANDS = {
    "headscale": [["bin/headscale", "version"]],
    "tailscale": [["bin/tailscale", "version"], ["bin/tailscaled", "--version"]],
    "ollama": [["bin/ollama", "--version"]],
    "openclaw": [],
}
# (program, source) -> Debian packages that this machine needs for it.
NEEDED_PACKAGES = {
    ("ollama", "build"): ["gcc", "g++", "binutils", "make", "cmake"],
    ("ollama", "release"): ["zstd"],
    ("openclaw", "build"): ["mmdebstrap", "zstd", "debian-archive-keyring"],
}


@dataclass(frozen=True)
class Job:
    name: str
    cpu: str
    source: str
    gpu: bool


def prepare(names: list[str], cpu: str, source: str, gpu: bool, board: Board) -> list[store.Program]:
    """Puts the pinned versions of programs into the cache. Programs that are there already take no time.

    If one program fails, the others are finished first. Then this raises ArtifactError.
    """
    missing = [name for name in names if not _ready(name, cpu, source, gpu, board)]
    with ThreadPoolExecutor() as pool:  # in parallel, because each release site that does not answer takes seconds
        jobs = list(pool.map(lambda name: _job(name, cpu, source, gpu, board), missing))
    compiled = sorted((j for j in jobs if j.name in COMPILED), key=lambda j: COMPILED.index(j.name))
    lanes = [
        [job for job in compiled if job.source == "build"],
        [job for job in jobs if job.name not in COMPILED or job.source == "release"],
    ]
    needed = [package for job in jobs for package in NEEDED_PACKAGES.get((job.name, job.source), [])]
    run.ensure_packages(sorted(set(needed)), board)
    failures: list[Exception] = []
    # Daemon threads, so that Ctrl-C ends a download at once. The next run removes or continues what they leave.
    running = [threading.Thread(target=_lane, args=(lane, board, failures), daemon=True) for lane in lanes]
    try:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    except BaseException:
        run.end_all()
        raise
    for failure in failures:
        if not isinstance(failure, ArtifactError):
            raise failure
    if failures:
        raise ArtifactError("\n\n".join(str(failure) for failure in failures))
    return [found for name in names if (found := store.find_program(name, cpu, source, gpu))]


def _ready(name: str, cpu: str, source: str, gpu: bool, board: Board) -> bool:
    found = store.find_program(name, cpu, source, gpu)
    if found:
        board.say(f"{name} {found.version} ({cpu}): in the cache ({found.source})")
    return found is not None


def _job(name: str, cpu: str, source: str, gpu: bool, board: Board) -> Job:
    """The job for one program. With the source "auto" it asks the release site, and prints which source it chose."""
    pin = pins.program(name, cpu)
    gpu = gpu and name == "ollama"
    chosen = source
    if source == "auto":
        reason = why_unreachable(pin.release[cpu].url)
        chosen = "build" if reason else "release"
        because = f"the release site cannot be reached: {reason}" if reason else "it can be reached"
        board.say(f"{name} {pin.version} ({cpu}): source {chosen} ({because})")
    if chosen == "build" and gpu:
        raise ArtifactError(
            "ollama with GPU libraries can only be had as a release (--source release), and the release site cannot be "
            "reached or --source is another; next: make the site reachable, or leave out --gpu for an Ollama without "
            "GPU libraries"
        )
    if chosen == "build" and name in ("ollama", "openclaw") and cpu != packages.this_cpu():
        why = "it has parts in C++" if name == "ollama" else "its packages run while they are installed"
        raise ArtifactError(
            f"{name} cannot be built for {cpu} on this {packages.this_cpu()} machine ({why}); "
            f"next: use --source release, or run this on an {cpu} machine"
        )
    return Job(name, cpu, chosen, gpu)


def _lane(jobs: list[Job], board: Board, failures: list[Exception]) -> None:
    for job in jobs:
        try:
            _make(job, board)
        except Exception as error:
            failures.append(error)


def _make(job: Job, board: Board) -> None:
    target = store.program_directory(job.name, job.cpu, job.source, job.gpu)
    with cache.staging(target) as staged:
        if job.source == "build":
            BUILDERS[job.name](job.cpu, staged, board)
        elif job.name == "openclaw":
            with board.stage(f"{job.name} release") as stage:
                image.fetch_openclaw(job.cpu, staged, stage)
        else:
            with board.stage(f"{job.name} release") as stage:
                release.prepare(job.name, job.cpu, staged, stage, job.gpu)
        if job.cpu == packages.this_cpu():
            _check_versions(job, staged)
        made = store.publish_program(staged, job.name, job.cpu, job.source, job.gpu)
    size = sum(file.size for file in made.files)
    board.say(f"{job.name} {made.version} ({job.cpu}, {job.source}): {size / 1e6:,.1f} MB in {made.directory}")


def _check_versions(job: Job, staged: Path) -> None:
    """Raises ArtifactError when a program does not start here, or prints another version than the pinned one."""
    version = pins.program(job.name, job.cpu).version
    for command in VERSION_COMMANDS[job.name]:
        program = str(staged / command[0])
        try:
            answer = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ArtifactError(f"{job.name}: {command[0]} does not run on this machine: {error}") from error
        said = (answer.stdout + answer.stderr).strip()
        if version not in said:
            raise ArtifactError(f"{job.name}: {' '.join(command)} says {said!r}; pinned is {version}")
