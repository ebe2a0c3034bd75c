"""What the machine on which the lab runs must have: Debian packages, and the packed root from which hosts are made."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from artifacts import cache as artifacts_cache
from lab.state import LabError
from plan.engine.errors import SettingError

# For nspawn, building the root, the bridge's rules and the package proxy. Nearly every Debian has the rest already.
MACHINE_PACKAGES = (
    "systemd-container",
    "mmdebstrap",
    "debian-archive-keyring",
    "nftables",
    "tinyproxy-bin",
    "iproute2",
    "openssh-client",
    "util-linux",
    "mount",
)

# What the tests need in addition: a browser with icons and a certificate store, readers of PDF and of QR codes, and
# age, which opens backups. These take about 430 MB, so the demo does not install them.
BROWSER_PACKAGES = ("chromium", "libnss3-tools", "fonts-noto-color-emoji", "poppler-utils", "zbar-tools", "age")

# The packages of a freshly installed server. The deployment must install all others itself, and so the tests show that
# it does.
ROOT_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3-minimal",
    "sudo",
    "iproute2",
    "ca-certificates",
    "procps",
)
ROOT_SUITE = "trixie"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Mirrors:
    """From where this machine gets Debian: the URL of the main archive and, if there is one, of the security
    archive."""

    main: str
    security: str | None

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.main, self.security) if self.security else (self.main,)

    def sources(self, suite: str) -> tuple[str, ...]:
        """The lines of apt's sources for a suite and its updates."""
        lines = [f"deb {self.main} {suite} main", f"deb {self.main} {suite}-updates main"]
        if self.security:
            lines.append(f"deb {self.security} {suite}-security main")
        return tuple(lines)


def parse_mirrors(listing: str, codename: str) -> Mirrors:
    """Debian's URLs from the output of `apt-get indextargets`, which has a line `RELEASE COMPONENT URL` for each index.

    The repositories of other projects have other releases or components, so they are not taken. SettingError if no line
    fits, or if the URL is not HTTP: the hosts have no uplink, and get packages through an HTTP proxy.
    """
    found: dict[str, str] = {}
    for line in listing.splitlines():
        release, component, url = line.split(" ", 2)
        if component == "main":
            found.setdefault(release, url.strip().rstrip("/"))
    if codename not in found:
        raise SettingError(
            "apt sources of this machine",
            sorted(found),
            f"one for Debian {codename}, component main",
            "add Debian's own archive to /etc/apt/sources.list.d and run `apt-get update`",
        )
    mirrors = Mirrors(found[codename], found.get(f"{codename}-security"))
    for url in mirrors.urls:
        if not re.match(r"https?://[^/@]+", url):
            raise SettingError(
                "apt sources of this machine", url, "http:// or https://", "write the URL of a mirror there"
            )
    return mirrors


def find_mirrors() -> Mirrors:
    """The mirrors that apt uses on this machine."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if release.get("ID") != "debian":
        raise SettingError(
            "operating system of this machine",
            release.get("PRETTY_NAME", "unknown").strip('"'),
            "Debian 12 or newer",
            "run the demo on Debian; your own hosts can be deployed to from any system",
        )
    form = ["--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    listing = _output(["apt-get", "indextargets", *form])
    listing = re.sub(r"mirror\+file:(\S+)", lambda match: _first_mirror(Path(match[1].rstrip("/"))), listing)
    return parse_mirrors(listing, release["VERSION_CODENAME"].strip('"'))


def _first_mirror(file: Path) -> str:
    # Debian's cloud images name their mirrors in a file (apt-transport-mirror(1)).
    return file.read_text().split()[0]


def missing_packages(wanted: tuple[str, ...]) -> list[str]:
    """Which of these Debian packages are not installed on this machine."""
    form = "${Package} ${db:Status-Status}\n"
    done = subprocess.run(["dpkg-query", "-W", "-f", form, *wanted], capture_output=True, text=True, check=False)
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def install(packages: list[str]) -> None:
    """Install Debian packages on this machine. apt prints its own progress to the terminal."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", "-q", *command], env=environment, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise LabError(f"apt-get {' '.join(command)} failed, see above; repair it and run again")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is in the packed root. Its hash is part of the root's name, so that a changed recipe
    makes a new root."""

    suite: str
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    # Nobody reads manuals on a virtual host. Without these files, size and time to unpack are half.
    excluded: tuple[str, ...] = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
    included: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    # These are removed, because every host gets keys and an identity of its own.
    removed: tuple[str, ...] = ("/etc/ssh/ssh_host_*", "/etc/machine-id", "/etc/hostname", "/etc/resolv.conf")

    @property
    def name(self) -> str:
        said = {what: value for what, value in asdict(self).items() if value}
        digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        return f"{self.suite}-{digest[:16]}.tar"

    def command(self, target: Path) -> list[str]:
        """mmdebstrap's command line. apt's lists are removed by mmdebstrap itself."""
        remove = " ".join(f'"$1"{pattern}' for pattern in self.removed)
        return [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=tar",
            "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
            f"--include={','.join(self.packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in self.excluded),
            # These come after the excludes: the last rule that matches decides (dpkg(1)).
            *(f"--dpkgopt=path-include={pattern}" for pattern in self.included),
            *(f"--customize-hook={hook}" for hook in self.hooks),
            f"--customize-hook=rm -f {remove}",
            self.suite,
            str(target),
            *self.sources,
        ]


def cache() -> Path:
    return artifacts_cache.root() / "lab"


def build_root(recipe: Recipe, tell: Tell) -> Path:
    """The packed root, from the cache or built now (a minute and a half). It gets its name only when it is complete."""
    target = cache() / recipe.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        # If two labs are brought up at the same time, only one of them builds it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        part = target.with_name(f"{target.stem}.part.tar")
        last = ""
        with subprocess.Popen(
            recipe.command(part), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as builder:
            assert builder.stderr is not None
            lines = []
            for line in builder.stderr:
                lines.append(line.rstrip())
                if line.startswith("I: ") and "hook" not in line:
                    last = line[3:].strip()
                    tell(last)
        if builder.returncode:
            part.unlink(missing_ok=True)
            tail = "\n".join(lines[-15:])
            raise LabError(f"mmdebstrap failed (exit {builder.returncode}) after {last!r}:\n{tail}")
        part.rename(target)
    return target


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
