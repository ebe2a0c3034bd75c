"""What can go wrong while programs and models are obtained; every message says what to do about it."""

from __future__ import annotations


class ArtifactError(Exception):
    """Something could not be obtained; nothing half-made was put into place."""


class PinError(ArtifactError):
    """A name, CPU type or source that the pins file does not have, or a broken pins file."""


class ChecksumError(ArtifactError):
    """The bytes that arrived are not the pinned ones; they were deleted."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{what}: wrong checksum, nothing was kept\n  expected sha256 {expected}\n  received sha256 {actual}\n"
            "Either the file was changed on its way or at its source, or the pin is wrong. "
            "Compare with what the project publishes before changing artifacts/pins.yaml."
        )


class HttpStatusError(ArtifactError):
    """The server answered, but not with the file."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"{url}: the server answered {status} {reason}")


class UnreachableError(ArtifactError):
    """No answer, or the connection broke off more often than is tried; what arrived is kept to be resumed."""


class CommandError(ArtifactError):
    """A command of a build failed; the message has its last lines and where the whole log is."""
