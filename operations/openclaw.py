"""The OpenClaw image in the rootless storage of its account."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, operation

from facts.have import looking, through_manager
from operations.asked import ask, will_ask
from operations.component import INCOMING
from operations.differs import differs
from operations.script import into_place
from plan.difference import Change
from plan.openclaw import IMAGE_RECORD


class ImagePresent(FactBase[bool]):
    """Whether an image is in the account's storage, with the id that was recorded when it was laid down.

    False when there is no account yet. Cost: one remote command.
    """

    def command(self, image: str, account: str) -> str:
        # Podman is not called before it has been as its own manager runs it, which is when there is a record.
        same = f'test "$({image_id(image, account)} 2>/dev/null)" = "$(cat {IMAGE_RECORD})"'
        return f"if test -s {IMAGE_RECORD} && {same}; then echo yes; else echo no; fi"

    def process(self, output: list[str]) -> bool:
        return output[-1:] == ["yes"]


def image_id(image: str, account: str) -> str:
    """A command that prints the id of an image in the account's storage."""
    return looking(account, f"podman image inspect --format '{{{{.Id}}}}' {shlex.quote(image)}")


def image(name: str, image_name: str, archived_as: str, archive: Path, sha256: str, account: str) -> None:
    """Have an image in the storage of `account`: the operation `loaded`, whose question is said in advance."""
    will_ask(host, ImagePresent, image=image_name, account=account)
    loaded(name=name, image_name=image_name, archived_as=archived_as, archive=archive, sha256=sha256, account=account)


@operation()
def loaded(
    image_name: str, archived_as: str, archive: Path, sha256: str, account: str
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Own the image `image_name` in the storage of `account`, loaded from an OCI archive that calls it `archived_as`.

    The name holds a digest, so another image has another name. The id of what was loaded is kept on the host: an image
    that somebody gave this name is replaced. Others that no container is made from are removed then: the version before
    the last one, and what an interrupted run has left.
    """
    if ask(host, ImagePresent, image=image_name, account=account):
        host.noop(f"{image_name} is loaded")
        return
    differs(Change(f"image {image_name}", "loaded", "it is missing, or another image has its name"))
    uploaded = f"{INCOMING}/{sha256}"
    load = through_manager(account, "podman load --quiet")
    tag = through_manager(account, f"podman tag {shlex.quote(archived_as)} {shlex.quote(image_name)}")
    prune = through_manager(account, "podman image prune --all --force")
    yield StringCommand(f"install -d -m 0700 {INCOMING}; {prune} >/dev/null")
    yield FileUploadCommand(str(archive), uploaded)
    yield StringCommand(
        f"set -e; echo {sha256} {uploaded} | sha256sum --check --quiet; "
        f"{load} < {uploaded} >/dev/null; {tag}; rm {uploaded}; "
        f"{image_id(image_name, account)} > {IMAGE_RECORD}.new; {into_place(f'{IMAGE_RECORD}.new', IMAGE_RECORD)}"
    )
