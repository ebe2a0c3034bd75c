"""Builds the pinned versions from package registries, for controllers that cannot reach the release sites.

Every input is locked: Go modules by go.sum, the source of llama-server by its checksum. Build folders and Go's own
cache stay, so the next run continues an interrupted build.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from artifacts import cache, packages, pins
from artifacts.progress import Board
from artifacts.run import run

HERE = Path(__file__).resolve().parent
MEMORY_PER_JOB = 2 << 30  # bytes; compiling one of llama.cpp's largest C++ files takes about 1.5 GB

# These make one static program, without tests, examples, the web page (which would fetch files from the internet) and
# TLS (Ollama connects to it over loopback). With GGML_NATIVE off, the program does not depend on the CPU of the machine
# that builds it. On amd64 it needs AVX2 and FMA (Intel Core since 2013, AMD since 2015); the release does not.
LLAMA_FLAGS = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_SUBPROCESS=OFF",
]


def build_headscale(cpu: str, staged: Path, board: Board) -> None:
    """Builds bin/headscale."""
    _go_build("headscale", "github.com/juanfont/headscale/cmd/headscale", cpu, staged, board)


def build_tailscale(cpu: str, staged: Path, board: Board) -> None:
    """Builds bin/tailscale and bin/tailscaled."""
    version = pins.program("tailscale", cpu).version
    # Tailscale's own build scripts set these stamps. Without them it tells the version 1.102.x-ERR-BuildInfo.
    stamps = f"-X tailscale.com/version.shortStamp={version} -X tailscale.com/version.longStamp={version}"
    for program in ("tailscale", "tailscaled"):
        _go_build("tailscale", f"tailscale.com/cmd/{program}", cpu, staged, board, stamps)


def build_ollama(cpu: str, staged: Path, board: Board) -> None:
    """Builds bin/ollama, and lib/ollama/llama-server, where Ollama looks for it. Only for this machine's CPU type."""
    server = build_llama_server(board)
    (staged / "lib/ollama").mkdir(parents=True)
    shutil.copyfile(server, staged / "lib/ollama/llama-server")
    (staged / "lib/ollama/llama-server").chmod(0o755)
    version = pins.program("ollama", cpu).version
    # Without the stamp it tells the version 0.0.0, and Ollama's registry refuses that as too old.
    stamp = f"-X github.com/ollama/ollama/version.Version={version}"
    _go_build("ollama", "github.com/ollama/ollama", cpu, staged, board, stamp, cgo=True)


def build_llama_server(board: Board) -> Path:
    """Builds the static llama-server of the pinned llama.cpp, without debugging symbols. It builds only this target,
    because all targets would take twice as long."""
    package = pins.load().packages["llama-server"]
    work = cache.root() / "work" / f"llama-server-{package.version}"
    built, stripped = work / "build/bin/llama-server", work / "llama-server"
    with board.stage("llama-server") as stage:
        if not (work / "source").is_dir():
            sdist = packages.download(package, stage, source=True)
            stage.text = f"unpacking {sdist.name}"
            with cache.staging(work / "source") as unpacked:
                with tarfile.open(sdist, "r:gz") as tar:
                    tar.extractall(unpacked)  # the sdist's checksum is pinned
                (top,) = unpacked.iterdir()
                top.rename(work / "source")
        tree = work / "source/llama.cpp"
        run(["cmake", "-S", str(tree), "-B", str(work / "build"), *LLAMA_FLAGS], stage, "llama-server")
        command = ["cmake", "--build", str(work / "build"), "--target", "llama-server", f"-j{_jobs()}"]
        run(command, stage, "llama-server")
        run(["strip", "-o", str(stripped), str(built)], stage, "llama-server")
    return stripped


def _go_build(
    recipe: str, target: str, cpu: str, staged: Path, board: Board, stamps: str = "", cgo: bool = False
) -> None:
    """Builds one program of a module of artifacts/build/ into staged/bin/."""
    module = HERE / "build" / recipe
    program = target.rpartition("/")[2]
    (staged / "bin").mkdir(exist_ok=True)
    with board.stage(program) as stage:
        # -s -w leaves out debugging tables, so a quarter less has to be sent to every host.
        flags = ["-trimpath", "-mod=readonly", "-ldflags", f"-s -w {stamps}".strip()]
        go = packages.go(module, stage)
        stage.text = "compiling"
        run(
            [go, "build", "-v", *flags, "-o", str(staged / "bin" / program), target],
            stage,
            f"go-{program}",
            cwd=module,
            env={
                "CGO_ENABLED": "1" if cgo else "0",
                "GOOS": "linux",
                "GOARCH": cpu,
                "GOFLAGS": "",
                "GOTOOLCHAIN": "local",
            },
        )


def _jobs() -> int:
    """How many compilers may run at the same time, by the number of cores and by memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // MEMORY_PER_JOB))
