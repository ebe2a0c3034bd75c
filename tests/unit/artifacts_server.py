"""A real HTTP server on loopback with the same paths and forms as the release sites, for the tests of artifacts/."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """What the server has and how it behaves. Paths begin with a slash. `asked` collects (method, path, Range)."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)  # the next answers end after so many bytes
    statuses: list[int] = field(default_factory=list)  # answers that come before the real ones
    token: str = ""  # if set, all paths except /token require it

    def gets(self, path: str) -> list[str]:
        """The Range headers of the GETs for a path, in order."""
        return [wanted for method, asked, wanted in self.asked if method == "GET" and asked == path]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        site = self.site
        path, _, _query = self.path.partition("?")
        wanted = self.headers.get("Range", "")
        site.asked.append((self.command, path, wanted))
        if site.statuses and not head:
            return self._send(site.statuses.pop(0), b"not now", head)
        if path.endswith("/token"):
            return self._send(200, json.dumps({"token": site.token}).encode(), head)
        if site.token and self.headers.get("Authorization") != f"Bearer {site.token}":
            realm = f'Bearer realm="https://{path.split("/")[1]}/token",service="here",scope="pull"'
            return self._send(401, b"", head, {"WWW-Authenticate": realm})
        if path not in site.files:
            return self._send(404, b"no such file", head)
        data = site.files[path]
        etag = f'"{sha256(data)[:8]}"'
        if site.ranges and wanted and self.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self._send(416, b"", head, {"Content-Range": f"bytes */{len(data)}"})
            span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}", "ETag": etag}
            return self._send(206, data[start:], head, span)
        return self._send(200, data, head, {"ETag": etag})

    def _send(self, status: int, body: bytes, head: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if head:
            return
        if self.site.break_after and status in (200, 206):
            body = body[: self.site.break_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Site]:
    """Run the server while the block runs."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()


def tar(members: dict[str, bytes | str], mode: str = "w") -> bytes:
    """A tar archive. Bytes are the content of a file (0755), a string is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def says(text: str) -> bytes:
    """A program that prints a text, with any arguments."""
    return f"#!/bin/sh\necho '{text}'\n".encode()


def image(site: Site, host: str, repository: str) -> str:
    """Put an image for two CPU types on the server. Returns the digest of its index."""
    base = f"/{host}/v2/{repository}"

    def put(kind: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{sha256(data)}"
        site.files[f"{base}/{kind}/{digest}"] = data
        return {"digest": digest, "size": len(data)}

    entries = []
    for cpu in ("amd64", "arm64"):
        config = put("blobs", json.dumps({"architecture": cpu, "os": "linux"}).encode())
        layer = put("blobs", f"layer for {cpu}".encode() * 100)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        }
        entry = put("manifests", json.dumps(manifest).encode())
        entries.append(entry | {"platform": {"architecture": cpu, "os": "linux"}})
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }
    return str(put("manifests", json.dumps(index).encode())["digest"]).removeprefix("sha256:")


def pins_for(site: Site, folder: Path, real: Path) -> Path:
    """A pins file like the real one, with the checksums of the server's files."""
    pins = yaml.safe_load(real.read_text())
    for program in pins["programs"].values():
        for file in program["release"].values():
            path = "/" + file["url"].removeprefix("https://")
            if path in site.files:
                file["sha256"] = sha256(site.files[path])
    made = folder / "pins.yaml"
    made.write_text(yaml.safe_dump(pins))
    return made
