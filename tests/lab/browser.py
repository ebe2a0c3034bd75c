"""A real browser with the network of a lab's host, for pages that only the house's devices may open.

It is this machine's Chromium. It runs in the host's network namespace, with the host's resolver and names. It has its
own home folder, and an account that no other program uses. So it uses the same network, MagicDNS and CA as programs on
the host, and the test knows afterwards everything for which the browser asked the network.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Error, Page, sync_playwright

from lab.access import leader
from tests.lab.conftest import REPO, TestLab

SCREENSHOTS = REPO / "reports" / "browser"
CHROMIUM = "/usr/bin/chromium"
#: The commands in docs/quick-start.md with which people trust the CA's file.
TRUST = (
    "mkdir -p $HOME/.pki/nssdb",
    "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n private-ai-house -i {file}",
)
#: An account without a name or rights. By its number the kernel recognizes the browser's packets.
ACCOUNT = 61718
#: The files in /etc that decide how a host resolves names. The browser sees the host's files, not those of this
#: machine.
NAME_FILES = ("resolv.conf", "hosts", "nsswitch.conf")

#: Two services of Chromium cannot be switched off. They get an address on loopback at which nothing listens.
NOWHERE = "127.0.0.1"
QUIET_SWITCHES = (f"--gaia-url=http://{NOWHERE}:9", f"--component-updater=url-source=http://{NOWHERE}:9/")
#: By default, Chromium sends a description of every form to content-autofill.googleapis.com.
QUIET_PREFERENCES = {
    "autofill": {"profile_enabled": False, "credit_card_enabled": False},
    "credentials_enable_service": False,
}

TABLE = "lab_browser"
#: Rules that come before all rules of the house, so that packets which those refuse are also counted. If a killed test
#: has left its table, the first two lines remove it.
WATCH = f"""
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set v4 {{ type ipv4_addr . inet_proto . inet_service; flags dynamic; size 4096; }}
  set v6 {{ type ipv6_addr . inet_proto . inet_service; flags dynamic; size 4096; }}
  chain output {{
    type filter hook output priority raw; policy accept;
    oif lo return
    # Not "!= return" first: the kernel's own packets, of connections that have ended, have no account and would pass.
    meta skuid {ACCOUNT} meta l4proto {{ tcp, udp }} update @v4 {{ ip daddr . meta l4proto . th dport }}
    meta skuid {ACCOUNT} meta l4proto {{ tcp, udp }} update @v6 {{ ip6 daddr . meta l4proto . th dport }}
  }}
}}
"""


@dataclass
class HostBrowser:
    """A browser on a host. `names` and `packets` are filled when it is closed."""

    context: BrowserContext
    #: Every name or address to which any part of the browser wanted to connect.
    names: set[str] = field(default_factory=set)
    #: (address, protocol, port) of every packet that it sent, answered or not.
    packets: set[tuple[str, str, int]] = field(default_factory=set)


def shot(page: Page, name: str) -> None:
    """Save a screenshot of the page in reports/browser."""
    for left in (2, 1, 0):
        try:
            page.screenshot(path=SCREENSHOTS / f"{name}.png")
            return
        except Error as error:
            # Chromium says this while it replaces the page by another one, for example by its page for an error.
            if not left or "Unable to capture screenshot" not in str(error):
                raise
            page.wait_for_timeout(500)


@contextmanager
def browser_in(lab: TestLab, host: str, ca: str = "", **options: Any) -> Iterator[HostBrowser]:
    """A new Chromium with an empty profile on `host` of a lab that is up. It trusts the CA `ca` (PEM) besides its own
    CAs.

    `options` go to Playwright's launch_persistent_context. If a test fails, screenshots of the open pages are saved as
    failed-N.png. It takes 3 s on a quiet machine. Only screenshots stay on host and machine.
    """
    for program in (CHROMIUM, "certutil"):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is not installed. Next: lab/prepare --browser")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    pid = leader(host, lab.name)
    with tempfile.TemporaryDirectory(prefix="browser-") as folder, _watched(pid) as packets:
        home = Path(folder)
        _furnish(home, Path(f"/proc/{pid}/root/etc"), ca)
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                home / "profile",
                executable_path=_starter(home, pid),
                env={"HOME": folder, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
                args=[*QUIET_SWITCHES, f"--log-net-log={home}/net.json"],
                **options,
            )
            browser = HostBrowser(context, packets=packets)
            try:
                yield browser
            except BaseException:
                for number, page in enumerate(context.pages):
                    shot(page, f"failed-{number}")
                raise
            finally:
                context.close()
        browser.names.update(_names(json.loads((home / "net.json").read_text())))


def _furnish(home: Path, etc: Path, ca: str) -> None:
    """Make the browser's home folder: the host's files for names, a store with the CA, a profile that sends little."""
    for name in NAME_FILES:
        (home / name).write_text((etc / name).read_text())
    (home / "profile/Default").mkdir(parents=True)
    (home / "profile/Default/Preferences").write_text(json.dumps(QUIET_PREFERENCES))
    if ca:
        (home / "ca.crt").write_text(ca)
        for command in TRUST:
            text = command.format(file=home / "ca.crt")
            subprocess.run(
                ["sh", "-c", text], env={**os.environ, "HOME": str(home)}, stdin=subprocess.DEVNULL, check=True
            )
    for path in (home, *home.rglob("*")):
        os.chown(path, ACCOUNT, ACCOUNT)


def _starter(home: Path, pid: int) -> Path:
    """The path of a program that Playwright starts: it becomes Chromium in the network of process `pid`.

    It only uses exec, so Playwright's pipes and signals reach Chromium itself.
    """
    inside = [f"mount --bind {shlex.quote(str(home / name))} /etc/{name}" for name in NAME_FILES]
    inside.append(
        f"exec setpriv --reuid={ACCOUNT} --regid={ACCOUNT} --clear-groups --no-new-privs --inh-caps=-all "
        f'{CHROMIUM} "$@"'
    )
    program = home / "chromium"
    program.write_text(
        f"#!/bin/sh\nexec nsenter --target={pid} --net unshare --mount sh -ec {shlex.quote('; '.join(inside))} sh "
        '"$@"\n'
    )
    program.chmod(0o755)
    return program


@contextmanager
def _watched(pid: int) -> Iterator[set[tuple[str, str, int]]]:
    """Record the account's packets in the network of `pid`. The set is filled at the end."""
    packets: set[tuple[str, str, int]] = set()
    nft = ["nsenter", f"--target={pid}", "--net", "nft"]
    subprocess.run([*nft, "-f", "-"], input=WATCH, text=True, check=True)
    try:
        yield packets
        said = subprocess.run([*nft, "-j", "list", "table", "inet", TABLE], capture_output=True, text=True, check=True)
        for entry in json.loads(said.stdout)["nftables"]:
            for element in entry.get("set", {}).get("elem", []):
                address, protocol, port = element["concat"]
                packets.add((address, protocol, port))
    finally:
        subprocess.run([*nft, "delete", "table", "inet", TABLE], check=True)


def _names(log: dict[str, Any]) -> set[str]:
    """The names of hosts in Chromium's log of its network stack. Each request first resolves its host's name there."""
    resolve = log["constants"]["logEventTypes"]["HOST_RESOLVER_MANAGER_REQUEST"]
    hosts = {event.get("params", {}).get("host", "") for event in log["events"] if event["type"] == resolve}
    names = {urlsplit(host if "://" in host else f"//{host}").hostname or host for host in hosts if host}
    return names - {NOWHERE}
