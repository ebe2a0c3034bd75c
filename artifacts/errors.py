"""The errors of obtaining programs and models. Every message says what to do next."""

from __future__ import annotations


class ArtifactError(Exception):
    """Something could not be obtained. The cache has no unfinished result."""


class PinError(ArtifactError):
    """The pins file is broken, or it does not have this name, CPU type or source."""


class ChecksumError(ArtifactError):
    """The file that arrived is not the pinned one. It was deleted."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{what}: wrong checksum, nothing was kept\n  expected sha256 {expected}\n  received sha256 {actual}\n"
            "Either the file was changed on its way or at its source, or the pin is wrong. "
            "Compare with what the project publishes before changing artifacts/pins.yaml."
        )


class HttpStatusError(ArtifactError):
    """The server answered with a status that is an error."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"{url}: the server answered {status} {reason}")


class UnreachableError(ArtifactError):
    """The server did not answer, or the connection failed too often. The part that arrived is kept, and the next run
    continues it."""


class CommandError(ArtifactError):
    """A command of a build failed. The message has the last lines of its output, and the path of the whole log."""
