"""Downloads a pinned file. It continues an interrupted download, tries again after errors, shows the progress, and
checks the file before it moves it to its place.

PRIVATE_AI_RELEASE_MIRROR may name a mirror. Its paths begin with the host and path of the original address:
https://github.com/juanfont/headscale/... becomes MIRROR/github.com/juanfont/headscale/... The same checksums apply.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from artifacts.cache import sha256_of
from artifacts.errors import ArtifactError, ChecksumError, HttpStatusError, UnreachableError

if TYPE_CHECKING:
    from artifacts.progress import Stage

MIRROR_SETTING = "PRIVATE_AI_RELEASE_MIRROR"
DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each further try; after a try that brought data, from the start
TIMEOUT = 30.0  # seconds without a byte
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
# Errors of this computer (no space, no permission): another try would not help.
OWN_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}
USER_AGENT = "private-ai"

T = TypeVar("T")
Headers = Callable[[], dict[str, str]]


def mirrored(url: str) -> str:
    """The URL to ask: on the mirror, if one is set. Raises ArtifactError when the mirror is not an http(s) address."""
    mirror = os.environ.get(MIRROR_SETTING, "")
    if not mirror:
        return url
    mirror = web_address(MIRROR_SETTING, mirror)
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{mirror}/{parts.netloc}{parts.path}{query}"


def web_address(setting: str, value: str) -> str:
    """The address of a server from an environment variable, without a slash at its end. Raises ArtifactError."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[!-~]+", value) or "#" in value or "?" in value:
        raise ArtifactError(f"{setting} is {value!r}; accepted: an address that begins with https:// or http://")
    return value.rstrip("/")


def request(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> urllib.request.Request:
    """A request to the mirror or the source. If the answer redirects it, credentials are not sent to the new
    address."""
    made = urllib.request.Request(mirrored(url), method=method, headers={"User-Agent": USER_AGENT})
    for name, value in (headers or {}).items():
        if name == "Authorization":
            made.add_unredirected_header(name, value)
        else:
            made.add_header(name, value)
    return made


def why_unreachable(url: str, timeout: float = 2.0, headers: dict[str, str] | None = None) -> str:
    """Why the URL does not answer within `timeout` seconds, in a few words; "" when it does. Raises nothing."""
    reason = [f"no answer within {timeout:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(request(url, headers, "HEAD"), timeout=timeout):
                reason[0] = ""
        except urllib.error.HTTPError as error:
            # An image registry answers 401 to a first request, and then gives an anonymous token.
            reason[0] = "" if error.code == 401 else f"the server answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError, ArtifactError) as error:
            cause = getattr(error, "reason", "") or error
            if not isinstance(cause, TimeoutError):
                reason[0] = str(cause)

    # A thread, because the look-up of a name has longer time-outs of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    return reason[0]


def get_small(url: str, headers: dict[str, str] | None = None, limit: int = 4_000_000) -> tuple[bytes, dict[str, str]]:
    """The body (at most `limit` bytes) and the headers, names in lower case. Raises the same errors as `fetch`."""
    return _retry(url, lambda: _get_small(url, headers, limit), DELAYS)


def _get_small(url: str, headers: dict[str, str] | None, limit: int) -> tuple[bytes, dict[str, str]]:
    with urllib.request.urlopen(request(url, headers), timeout=TIMEOUT) as response:
        body: bytes = response.read(limit + 1)
        if len(body) > limit:
            raise ArtifactError(f"{url}: more than {limit} bytes where a small document was expected")
        return body, {name.lower(): value for name, value in response.headers.items()}


def fetch(
    url: str,
    target: Path,
    sha256: str,
    stage: Stage,
    *,
    headers: Headers = dict,
    delays: tuple[float, ...] = DELAYS,
) -> Path:
    """Downloads `url` to `target`, unless a file with the right checksum is there already.

    `headers` is called before every try, because a registry's token may expire during a long download.

    Raises ChecksumError (nothing is kept), HttpStatusError, or UnreachableError (TARGET.part is kept, and the next call
    continues it).
    """
    if target.is_file() and sha256_of(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    resumed = part.is_file() and part.stat().st_size > 0
    _download(url, part, stage, headers, delays)
    actual = sha256_of(part)
    if actual != sha256 and resumed:
        # The part from an earlier run may belong to another file, so this downloads the whole file once more.
        _forget(part)
        _download(url, part, stage, headers, delays)
        actual = sha256_of(part)
    if actual != sha256:
        _forget(part)
        raise ChecksumError(url, sha256, actual)
    part.replace(target)
    _forget(part)
    return target


def _download(url: str, part: Path, stage: Stage, headers: Headers, delays: tuple[float, ...]) -> None:
    """Downloads into `part` until the file is complete. Continues where an earlier try stopped."""
    _retry(
        url,
        lambda: _go_on(url, part, stage, headers),
        delays,
        lambda: part.stat().st_size if part.exists() else 0,
    )


def _go_on(url: str, part: Path, stage: Stage, headers: Headers) -> None:
    have = part.stat().st_size if part.exists() else 0
    asked = headers()
    if have:
        asked["Range"] = f"bytes={have}-"
        if validator := _validator(part):
            asked["If-Range"] = validator
    try:
        response = urllib.request.urlopen(request(url, asked), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # The server has nothing after this part. Either the part is the whole file, or it belongs to another file. The
        # checksum will tell.
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return
        _forget(part)
        raise ConnectionError("the server has a shorter file than the piece that was kept") from error
    with response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                _forget(part)
                raise ConnectionError("the server sent another range than was asked for")
        else:
            have = 0  # a server that does not know ranges, or whose file has changed, sends the whole file
        length = int(response.headers.get("Content-Length") or 0)
        stage.done, stage.total = have, have + length if length else 0
        _remember(part, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                stage.done += len(chunk)
        if stage.total and stage.done != stage.total:
            raise ConnectionError(f"the connection broke off at {stage.done} of {stage.total} bytes")


def _retry(url: str, attempt: Callable[[], T], delays: tuple[float, ...], progress: Callable[[], int] = lambda: 0) -> T:
    """Calls `attempt` until it succeeds, until an error is final, or until len(delays) + 1 calls in a row brought no
    new data."""
    tried, reached = 0, progress()
    while True:
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            error.close()
            failure: ArtifactError = HttpStatusError(url, error.code, error.reason)
            if error.code not in WORTH_ANOTHER_TRY:
                raise failure from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in OWN_FAULTS:
                raise ArtifactError(f"{url}: {error}") from error
            failure = UnreachableError(f"{url}: {getattr(error, 'reason', '') or error}")
        if progress() > reached:
            tried, reached = 0, progress()
        if tried == len(delays):
            raise failure
        time.sleep(delays[tried])
        tried += 1


def _validator(part: Path) -> str:
    """The value for If-Range: a strong ETag or a date; "" when the server gave neither."""
    try:
        return str(json.loads(_notes(part).read_text())["validator"])
    except (OSError, ValueError, KeyError):
        return ""


def _remember(part: Path, etag: str, modified: str) -> None:
    strong = etag if etag and not etag.startswith("W/") else ""
    _notes(part).write_text(json.dumps({"validator": strong or modified}))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")
