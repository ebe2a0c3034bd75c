"""The OpenClaw image in the rootless storage of its account."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, operation

from operations.component import INCOMING


def as_account(account: str, command: str) -> str:
    """Run a command as a lingering account, inside its own systemd manager, as Podman wants it."""
    return f"systemd-run --quiet --user --machine={shlex.quote(account)}@ --pipe --wait --collect {command}"


class ImagePresent(FactBase[bool]):
    """Whether an image is in the account's storage. False when there is no account yet. Cost: one remote command."""

    def command(self, image: str, account: str) -> str:
        check = as_account(account, f"podman image exists {shlex.quote(image)}")
        return f"if getent passwd {shlex.quote(account)} >/dev/null && {check}; then echo yes; else echo no; fi"

    def process(self, output: list[str]) -> bool:
        return output[-1:] == ["yes"]


@operation()
def image(
    image_name: str, archived_as: str, archive: Path, sha256: str, account: str
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Own the image `image_name` in the storage of `account`, loaded from an OCI archive that calls it `archived_as`.

    The name holds a digest, so another image has another name. A second run costs one remote command.
    """
    if host.get_fact(ImagePresent, image=image_name, account=account):
        host.noop(f"{image_name} is loaded")
        return
    uploaded = f"{INCOMING}/{sha256}"
    load = as_account(account, "podman load --quiet")
    tag = as_account(account, f"podman tag {shlex.quote(archived_as)} {shlex.quote(image_name)}")
    yield StringCommand(f"install -d -m 0700 {INCOMING}")
    yield FileUploadCommand(str(archive), uploaded)
    yield StringCommand(
        f"set -e; echo {sha256} {uploaded} | sha256sum --check --quiet; "
        f"{load} < {uploaded} >/dev/null; {tag}; rm {uploaded}"
    )
