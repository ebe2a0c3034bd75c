"""Downloads from a real server: complete, interrupted, refused and wrong ones."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.errors import ArtifactError, ChecksumError, HttpStatusError, UnreachableError
from artifacts.fetch import fetch, mirrored, why_unreachable
from artifacts.progress import Stage
from tests.unit.artifacts_server import Site, serving, sha256

DATA = bytes(range(256)) * 4000
SUM = sha256(DATA)
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files["/dir/file"] = DATA
        yield site


def test_a_good_file_is_put_in_place_and_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    stage = Stage("file")
    for _ in range(2):
        assert fetch(f"{site.url}/dir/file", tmp_path / "new/file", SUM, stage).read_bytes() == DATA
    assert len(site.gets("/dir/file")) == 1
    assert (stage.done, stage.total) == (len(DATA), len(DATA))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_wrong_checksum_names_both_values_and_keeps_nothing(site: Site, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(ChecksumError) as error:
        fetch(f"{site.url}/dir/file", tmp_path / "file", wrong, Stage("file"))
    assert wrong in str(error.value) and SUM in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_does_not_touch_an_older_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"older")
    with pytest.raises(ChecksumError):
        fetch(f"{site.url}/dir/file", tmp_path / "file", "0" * 64, Stage("file"))
    assert (tmp_path / "file").read_bytes() == b"older"


def test_an_interrupted_download_goes_on_where_it_broke_off(site: Site, tmp_path: Path) -> None:
    site.break_after = [300_000, 200_000]
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)
    assert site.gets("/dir/file") == ["", "bytes=300000-", "bytes=500000-"]
    assert (tmp_path / "file").read_bytes() == DATA


def test_the_next_run_resumes_what_the_last_one_could_not_finish(site: Site, tmp_path: Path) -> None:
    site.break_after = [100_000, 0, 0]
    with pytest.raises(UnreachableError):
        fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=(0.0,))
    site.break_after.clear()
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"))
    assert site.gets("/dir/file")[-1] == "bytes=100000-"
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_of_it_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.break_after = [300_000]
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_piece(site: Site, tmp_path: Path) -> None:
    site.files["/dir/file"] = b"x" * len(DATA)
    site.break_after = [300_000, 0]
    with pytest.raises(UnreachableError):
        fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=(0.0,))
    site.break_after.clear()
    site.files["/dir/file"] = DATA
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"))
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("piece", [DATA, b"x" * len(DATA), DATA + b"more", b"x" * 1000])
def test_an_old_piece_of_any_kind_ends_in_the_right_file(site: Site, tmp_path: Path, piece: bytes) -> None:
    (tmp_path / "file.part").write_bytes(piece)
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)
    assert (tmp_path / "file").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_not_found_is_said_at_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(HttpStatusError) as error:
        fetch(f"{site.url}/dir/other", tmp_path / "file", SUM, Stage("file"))
    assert error.value.status == 404 and f"{site.url}/dir/other" in str(error.value)
    assert len(site.gets("/dir/other")) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)
    assert len(site.gets("/dir/file")) == 3


def test_a_server_that_stays_busy_is_given_up(site: Site, tmp_path: Path) -> None:
    site.statuses = [503] * 9
    with pytest.raises(HttpStatusError) as error:
        fetch(f"{site.url}/dir/file", tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)
    assert error.value.status == 503
    assert len(site.gets("/dir/file")) == 3


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_no_server_is_another_error_than_a_refusal(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}/file"
    with pytest.raises(UnreachableError, match="refused"):
        fetch(url, tmp_path / "file", SUM, Stage("file"), delays=AT_ONCE)


def test_the_probe_says_why(site: Site) -> None:
    assert why_unreachable(f"{site.url}/dir/file") == ""
    assert "404" in why_unreachable(f"{site.url}/dir/other")
    assert "refused" in why_unreachable(f"http://127.0.0.1:{closed_port()}/file")


def test_the_probe_does_not_wait_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "0.2 s" in why_unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)


def test_a_mirror_keeps_host_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://github.com/juanfont/headscale/file?x=1"
    assert mirrored(url) == url
    monkeypatch.setenv("PRIVATE_AI_RELEASE_MIRROR", "https://files.house.internal/mirror/")
    assert mirrored(url) == "https://files.house.internal/mirror/github.com/juanfont/headscale/file?x=1"
    monkeypatch.setenv("PRIVATE_AI_RELEASE_MIRROR", "files.house.internal")
    with pytest.raises(ArtifactError, match=r"PRIVATE_AI_RELEASE_MIRROR is 'files\.house\.internal'"):
        mirrored(url)
