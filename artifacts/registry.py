"""The protocol of image registries, which Ollama's registry also uses: manifests, and blobs by their digest.

The mirror setting of artifacts/fetch.py applies here too, with the paths of the protocol:
MIRROR/ghcr.io/v2/openclaw/openclaw/manifests/sha256:... and .../blobs/sha256:...
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from artifacts.errors import ArtifactError, ChecksumError
from artifacts.fetch import TIMEOUT, fetch, get_small, request

if TYPE_CHECKING:
    from artifacts.progress import Stage

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Repository:
    """One repository of a registry. `base`: for example https://ghcr.io/v2/openclaw/openclaw."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    def manifest(self, reference: str) -> tuple[bytes, dict[str, Any]]:
        """The manifest of a tag or digest: its bytes, and parsed.

        Raises ChecksumError when the bytes do not have the digest that was asked for, ArtifactError when the answer is
        not a manifest.
        """
        url = f"{self.base}/manifests/{reference}"
        accept = {"Accept": ", ".join(INDEX_TYPES + MANIFEST_TYPES)}
        body, _ = get_small(url, self._authorized(url) | accept)
        if reference.startswith("sha256:"):
            actual = hashlib.sha256(body).hexdigest()
            if actual != reference.removeprefix("sha256:"):
                raise ChecksumError(url, reference.removeprefix("sha256:"), actual)
        try:
            parsed = json.loads(body)
        except ValueError as error:
            raise ArtifactError(f"{url}: not a manifest: {error}") from error
        if not isinstance(parsed, dict):
            raise ArtifactError(f"{url}: not a manifest")
        return body, parsed

    def blob(self, digest: str, folder: Path, stage: Stage) -> Path:
        """Downloads a blob to folder/sha256-<hex>, and checks its digest. Raises the same errors as `fetch`."""
        self.check_digest(digest)
        url = f"{self.base}/blobs/{digest}"
        hexadecimal = digest.removeprefix("sha256:")
        target = folder / f"sha256-{hexadecimal}"
        return fetch(url, target, hexadecimal, stage, headers=lambda: self._authorized(url))

    def check_digest(self, digest: str) -> None:
        """Raises ArtifactError for text that is not a digest, because it becomes the name of a file."""
        if not _DIGEST.fullmatch(digest):
            raise ArtifactError(f"{self.base}: the manifest names a blob {digest!r}; accepted: sha256:<64 digits>")

    def _authorized(self, url: str) -> dict[str, str]:
        """Headers with an anonymous token, if the registry requires one."""
        try:
            with urllib.request.urlopen(request(url, method="HEAD"), timeout=TIMEOUT):
                return {}
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return {"Authorization": f"Bearer {self._token(error.headers.get('WWW-Authenticate', ''))}"}
        except OSError:
            pass  # the next request reports the error, if it still fails
        return {}

    def _token(self, challenge: str) -> str:
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = fields.pop("realm", "")
        # A registry must not make us send requests for its token to another server (CVE-2025-51471).
        if not challenge.startswith("Bearer ") or urlsplit(realm).netloc != urlsplit(self.base).netloc:
            raise ArtifactError(f"{self.base}: asks for a login that is not offered to everybody ({challenge!r})")
        body, _ = get_small(f"{realm}?{urlencode(fields)}")
        answer = json.loads(body)
        return str(answer.get("token") or answer["access_token"])
