"""The OpenClaw image in the rootless Podman storage of its account."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import FactBase, FunctionCommand, StringCommand, operation

from facts.engine.component_state import looking, through_manager
from operations.engine.announced_changes import differs
from operations.engine.answers import ask, will_ask
from operations.engine.shell import inside, into_place
from operations.engine.upload import upload
from plan.engine.difference import Change
from plan.engine.upload_folder import IMAGE_INCOMING
from plan.openclaw.configuration import IMAGE_RECORD, USER_NAMESPACE

#: The unit that loads an image, and its transient unit file, which exists while the unit runs.
LOADING = "private-ai-openclaw-image.service"
AT_WORK = f"/run/systemd/transient/{LOADING}"
#: Where the account's Podman puts its copy of an archive while it loads it.
COPY = "/var/lib/openclaw/.private-ai-load"
TRUST = '{"default": [{"type": "insecureAcceptAnything"}]}'
#: If loading takes more than so many seconds, it is ended.
PATIENCE = 1800


@dataclass(frozen=True)
class Image:
    """The image that `account` must have under the name `name`. It comes from an OCI archive with this SHA-256, in
    which it has the name `archived_as`."""

    name: str
    archived_as: str
    archive: Path
    sha256: str
    account: str


@dataclass(frozen=True)
class ImageSeen:
    """`present`: the image is in the account's storage, with the id that was recorded when it was loaded. `begun`: an
    interrupted run has left the folder of its upload."""

    present: bool
    begun: bool = False


class ImagePresent(FactBase[ImageSeen]):
    """Whether an image is loaded. While it is being loaded, the command waits. Without the account, it is not loaded.

    Cost: one remote command.
    """

    def command(self, image: str, account: str) -> str:
        # Podman is only called if there is a record: then Podman has run before in the way in which the account's user
        # manager runs it.
        same = f'test "$({image_id(image, account)} 2>/dev/null)" = "$(cat {IMAGE_RECORD})"'
        there = f"test -s {IMAGE_RECORD} && {same}"
        return (
            f"while test -e {AT_WORK}; do sleep 0.3; done; if {there}; then echo yes; else echo no; fi; "
            f"test ! -e {IMAGE_INCOMING} || echo begun"
        )

    def process(self, output: list[str]) -> ImageSeen:
        return ImageSeen("yes" in output, "begun" in output)


def image_id(image: str, account: str) -> str:
    """A command that prints the id of an image in the account's storage."""
    return looking(account, f"podman image inspect --format '{{{{.Id}}}}' {shlex.quote(image)}")


def image(name: str, image: Image) -> None:
    """Send an image and begin to load it. Registers the question of the operation `sent`, then calls the operation."""
    will_ask(host, ImagePresent, image=image.name, account=image.account)
    sent(name=name, image=image)


@operation()
def sent(image: Image) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Send the image's archive to the host and begin to load it. The run continues meanwhile; `loaded` waits for the
    end.

    The name contains a digest, so a different image has a different name. The id of the loaded image is recorded on the
    host: if somebody gives this name to another image, that image is replaced. Before an image is sent, all images that
    no container uses are removed: the version before the current one, and what an interrupted run has left.
    """
    seen = ask(host, ImagePresent, image=image.name, account=image.account)
    if seen.present and seen.begun:
        differs(Change(IMAGE_INCOMING, "removed", "an interrupted run has left it"))
        yield StringCommand(f"rm -rf {IMAGE_INCOMING}")
        return
    if seen.present:
        host.noop(f"{image.name} is loaded")
        return
    differs(Change(f"image {image.name}", "loaded", "it is missing, or another image has its name"))
    yield from _load(image)


@operation()
def loaded(image: Image) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the image that `sent` has begun to load. If that loading failed, it is done again, and the log shows it."""
    if not state.is_executing:
        host.noop("the operation that sends the image has announced what will be done")
        return
    if ask(host, ImagePresent, image=image.name, account=image.account).present:
        host.noop(f"{image.name} is loaded")
        return
    differs(Change(f"image {image.name}", "loaded", "loading it during the run has failed"))
    yield from _load(image, "--pipe --wait")


def _load(image: Image, how: str = "") -> Generator[StringCommand | FunctionCommand, None, None]:
    """Send and load an image. A unit of its own loads it, so that it continues if the controller is lost. `how`:
    options of systemd-run."""
    prune = through_manager(image.account, "podman image prune --all --force")
    yield StringCommand(f"{prune} >/dev/null")
    yield upload(image.archive, image.sha256, image.sha256, IMAGE_INCOMING)
    unit = f"systemd-run --quiet --collect --unit={LOADING} --property=RuntimeMaxSec={PATIENCE}"
    yield StringCommand(f"{unit} {how} sh -c {shlex.quote(_loading(image))}")


def _loading(image: Image) -> str:
    """A script that loads an archive on the host, and then records the id of the loaded image.

    Podman makes a copy of what it reads from a pipe, by default in /var/tmp. Here it makes the copy on the disk on
    which the image is stored.
    """
    name = shlex.quote(image.name)
    # For a container with a user namespace, Podman copies the image's files once, with changed owners. Making a first
    # container here makes this copy, and all later containers use it.
    made = f"podman create --quiet --replace --name first --network none --userns {USER_NAMESPACE} {name}"
    copy = f"rm -rf {COPY}; mkdir -m 0700 {COPY}; trap 'rm -rf {COPY}' EXIT; export TMPDIR={COPY}; "
    tagged = f"podman tag {shlex.quote(image.archived_as)} {name}"
    # /etc/containers/policy.json on the host may forbid images without a signature. This image needs none: it was
    # compared with its digest.
    trust = f"echo {shlex.quote(TRUST)} >{COPY}/policy.json"
    loaded = f"podman load --signature-policy {COPY}/policy.json --quiet"
    steps = f"{copy}{trust} && {loaded} && {tagged} && {made} && podman rm first"
    load = through_manager(image.account, f"sh -c {shlex.quote(steps)}")
    return (
        f"set -e; {inside(IMAGE_INCOMING)}; echo {image.sha256} {image.sha256} | sha256sum --check --quiet; "
        f"{load} <{image.sha256} >/dev/null; cd /; rm -rf {IMAGE_INCOMING}; "
        f"{image_id(image.name, image.account)} >{IMAGE_RECORD}.new; {into_place(f'{IMAGE_RECORD}.new', IMAGE_RECORD)}"
    )
