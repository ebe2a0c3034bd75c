"""Programs from releases, from end to end: the command, a server with the paths of the release sites, the cache."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import pins, release, store
from artifacts.__main__ import main
from artifacts.errors import ArtifactError
from artifacts.image import fetch_openclaw
from artifacts.packages import this_cpu
from artifacts.prepare import Job, _check_versions
from artifacts.progress import Stage
from artifacts.registry import INDEX_TYPES
from tests.unit.artifacts_server import Site, image, pins_for, says, serving, sha256, tar, zstd

HEADSCALE = "/github.com/juanfont/headscale/releases/download/v0.29.3/headscale_0.29.3_linux_"
TAILSCALE = "/pkgs.tailscale.com/stable/tailscale_1.102.3_"
OLLAMA = "/github.com/ollama/ollama/releases/download/v0.32.15/ollama-linux-"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving() as site:
        for cpu in pins.CPUS:
            site.files[f"{HEADSCALE}{cpu}"] = says("headscale version v0.29.3")
            folder = f"tailscale_1.102.3_{cpu}"
            site.files[f"{TAILSCALE}{cpu}.tgz"] = tar(
                {
                    f"{folder}/tailscale": says("1.102.3"),
                    f"{folder}/tailscaled": says("1.102.3"),
                    f"{folder}/systemd/tailscaled.service": b"[Unit]",
                },
                "w:gz",
            )
            site.files[f"{OLLAMA}{cpu}.tar.zst"] = zstd(
                tar(
                    {
                        "bin/ollama": says("ollama version is 0.32.15"),
                        "lib/ollama/libggml-base.so.0.1": b"base",
                        "lib/ollama/libggml-base.so.0": "libggml-base.so.0.1",
                        "lib/ollama/libggml-cpu-haswell.so": b"cpu",
                        "lib/ollama/llama-server": says("server"),
                        "lib/ollama/cuda_v13/libggml-cuda.so": b"cuda" * 100_000,
                        "lib/ollama/cuda_v13/libcublas.so": "libggml-cuda.so",
                        "lib/ollama/vulkan/libggml-vulkan.so": b"vulkan",
                        "lib/ollama/mlx_cuda_v13/libmlx.so": b"mlx",
                    }
                )
            )
        digest = image(site, "ghcr.io", "openclaw/openclaw")
        made = pins_for(site, tmp_path, pins.HERE / "pins.yaml")
        amd64, arm64 = (pins.load().programs["openclaw"].release[cpu].sha256 for cpu in pins.CPUS)
        made.write_text(made.read_text().replace(amd64, digest).replace(arm64, digest))
        monkeypatch.setenv("PRIVATE_AI_PINS", str(made))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PRIVATE_AI_RELEASE_MIRROR", site.url)
        yield site


def paths(program: store.Program | None) -> list[str]:
    assert program is not None
    return [file.path for file in program.files]


def test_every_program_is_obtained_for_both_cpu_types(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.token = "anonymous"  # the image registry requires a token
    for cpu in pins.CPUS:
        assert main(["prepare", "--cpu", cpu, "openclaw"]) == 0
    site.token = ""
    for cpu in pins.CPUS:
        assert main(["prepare", "--cpu", cpu, "--source", "auto"]) == 0
        assert paths(store.find_program("headscale", cpu)) == ["bin/headscale"]
        assert paths(store.find_program("tailscale", cpu)) == ["bin/tailscale", "bin/tailscaled"]
        ollama = store.find_program("ollama", cpu, "release")
        assert ollama is not None
        assert {file.path: (file.mode, file.link) for file in ollama.files} == {
            "bin/ollama": ("0755", ""),
            "lib/ollama/libggml-base.so.0": ("0777", "libggml-base.so.0.1"),
            "lib/ollama/libggml-base.so.0.1": ("0755", ""),
            "lib/ollama/libggml-cpu-haswell.so": ("0755", ""),
            "lib/ollama/llama-server": ("0755", ""),
        }
        assert store.find_program("ollama", cpu, gpu=True) is None
        openclaw = store.find_program("openclaw", cpu)
        assert openclaw is not None
        with tarfile.open(openclaw.directory / openclaw.files[0].path) as archive:
            index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
            (entry,) = index["manifests"]
            assert entry["annotations"]["org.opencontainers.image.ref.name"] == "localhost/openclaw:2026.9.6"
            blob = archive.extractfile("blobs/sha256/" + entry["digest"].removeprefix("sha256:"))
            assert blob is not None
            config = json.loads(blob.read())["config"]["digest"].removeprefix("sha256:")
            assert json.loads(archive.extractfile(f"blobs/sha256/{config}").read())["architecture"] == cpu  # type: ignore[union-attr]
    said = capsys.readouterr().err
    assert f"headscale 0.29.3 ({this_cpu()}): source release (it can be reached)" in said


def test_the_second_run_asks_for_nothing(site: Site) -> None:
    assert main(["prepare", "headscale", "ollama"]) == 0
    before = len(site.asked)
    assert main(["prepare", "headscale", "ollama"]) == 0
    assert len(site.asked) == before


def test_a_gpu_host_gets_the_gpu_libraries_from_the_same_download(site: Site) -> None:
    assert main(["prepare", "ollama"]) == 0
    assert main(["prepare", "--gpu", "ollama"]) == 0
    with_gpu = paths(store.find_program("ollama", this_cpu(), gpu=True))
    assert "lib/ollama/cuda_v13/libggml-cuda.so" in with_gpu and "lib/ollama/vulkan/libggml-vulkan.so" in with_gpu
    assert len(site.gets(f"{OLLAMA}{this_cpu()}.tar.zst")) == 1


def test_a_changed_release_file_fails_and_leaves_the_others_alone(
    site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site.files[f"{HEADSCALE}{this_cpu()}"] += b"rm -rf /\n"
    assert main(["prepare", "--source", "release", "headscale", "tailscale"]) == 1
    expected = pins.program("headscale", this_cpu()).release[this_cpu()].sha256
    assert expected in capsys.readouterr().err
    assert store.find_program("headscale", this_cpu()) is None
    assert store.find_program("tailscale", this_cpu()) is not None
    left = [path.name for path in (tmp_path / "cache/private-ai").rglob("*headscale*")]
    assert left == []


def test_a_program_that_calls_itself_another_version_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files[f"{HEADSCALE}{this_cpu()}"] = says("headscale version v0.28.0")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("PRIVATE_AI_PINS", str(pins_for(site, tmp_path / "other", tmp_path / "pins.yaml")))
    assert main(["prepare", "headscale"]) == 1
    assert "'headscale version v0.28.0'; pinned is 0.29.3" in capsys.readouterr().err


def test_a_changed_pin_or_a_lost_file_makes_the_lookup_fail(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["prepare", "headscale", "tailscale"]) == 0
    found = store.find_program("tailscale", this_cpu())
    assert found is not None
    (found.directory / "bin/tailscaled").unlink()
    assert store.find_program("tailscale", this_cpu()) is None
    site.files[f"{HEADSCALE}{this_cpu()}"] += b"# newer\n"
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("PRIVATE_AI_PINS", str(pins_for(site, tmp_path / "other", tmp_path / "pins.yaml")))
    assert store.find_program("headscale", this_cpu()) is None


def test_an_image_part_with_other_bytes_is_refused(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for path in list(site.files):
        if "/blobs/" in path and site.files[path].startswith(b"layer"):
            site.files[path] = b"evil" + site.files[path][4:]
    assert main(["prepare", "--source", "release", "openclaw"]) == 1
    assert "wrong checksum" in capsys.readouterr().err
    assert store.find_program("openclaw", this_cpu()) is None


def test_two_runs_do_not_collide(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache/private-ai").mkdir(parents=True)
    with (tmp_path / "cache/private-ai/lock").open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "artifacts", "prepare", "headscale"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=pins.HERE.parent) as second:
            assert second.stderr is not None
            assert b"another run (process 4711)" in second.stderr.readline()
            assert not site.asked
            fcntl.flock(held, fcntl.LOCK_UN)
            second.stderr.read()
        assert second.returncode == 0
    assert store.find_program("headscale", this_cpu()) is not None


@pytest.mark.parametrize(
    "members",
    [
        {"../outside": b"x"},
        {"/etc/outside": b"x"},
        {"lib/ollama/link": "/etc/passwd"},
        {"lib/ollama/link": "../../../outside"},
    ],
)
def test_an_archive_cannot_reach_outside(tmp_path: Path, members: dict[str, bytes | str]) -> None:
    (tmp_path / "a.tar.zst").write_bytes(zstd(tar(members)))
    (tmp_path / "staged").mkdir()
    with pytest.raises(ArtifactError):
        release.unpack_ollama(tmp_path / "a.tar.zst", tmp_path / "staged", gpu=True)
    assert list((tmp_path / "staged").rglob("*link*")) == []


def test_another_layout_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(zstd(tar({"ollama/bin/ollama": b"x"})))
    (tmp_path / "staged").mkdir()
    with pytest.raises(ArtifactError, match="bin/ollama, lib/ollama/llama-server not found"):
        release.unpack_ollama(tmp_path / "a.tar.zst", tmp_path / "staged", gpu=False)


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(zstd(tar({"bin/ollama": b"x" * 100_000}))[:60])
    (tmp_path / "staged").mkdir()
    with pytest.raises(ArtifactError, match=r"a\.tar\.zst"):
        release.unpack_ollama(tmp_path / "a.tar.zst", tmp_path / "staged", gpu=False)


def test_what_cannot_be_built_here_is_said_before_anything_is_done(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(cpu for cpu in pins.CPUS if cpu != this_cpu())
    assert main(["prepare", "--cpu", other, "--source", "build", "ollama"]) == 1
    assert f"ollama cannot be built for {other}" in capsys.readouterr().err
    assert main(["prepare", "--source", "build", "--gpu", "ollama"]) == 1
    assert "only be had as a release" in capsys.readouterr().err
    assert site.asked == []


def test_an_archive_that_is_damaged_behind_its_end_is_said(tmp_path: Path) -> None:
    # tar does not notice the damage, only zstd does.
    whole = zstd(tar({"bin/ollama": b"x", "lib/ollama/llama-server": b"x"}))
    (tmp_path / "a.tar.zst").write_bytes(whole + b"and more")
    (tmp_path / "staged").mkdir()
    with pytest.raises(ArtifactError, match=r"a\.tar\.zst: cannot be unpacked: .*zst"):
        release.unpack_ollama(tmp_path / "a.tar.zst", tmp_path / "staged", gpu=False)


def test_a_program_that_does_not_run_here_is_said(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/headscale").write_bytes(b"\x7fELF of another kind")
    (tmp_path / "bin/headscale").chmod(0o755)
    with pytest.raises(ArtifactError, match="headscale: bin/headscale does not run on this machine: "):
        _check_versions(Job("headscale", this_cpu(), "release", False), tmp_path)


def test_an_image_without_this_cpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    index = json.dumps({"mediaType": INDEX_TYPES[0], "manifests": []}).encode()
    with serving() as site:
        url = f"{site.url}/v2/openclaw/openclaw/manifests/sha256:{sha256(index)}"
        site.files[url.removeprefix(site.url)] = index
        pin = pins.ProgramPin("openclaw", "1", "openclaw", {"arm64": pins.ReleaseFile(url, sha256(index))})
        monkeypatch.setattr(pins, "program", lambda name, cpu: pin)
        with pytest.raises(ArtifactError, match="the image is not made for arm64"):
            fetch_openclaw("arm64", tmp_path, Stage("image"))
