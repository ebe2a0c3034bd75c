"""A real browser that stands where a lab's host stands, for pages that only the house's devices may open.

It is this machine's Chromium in the host's network namespace, with the host's resolver and names, a home folder of its
own and an account that nothing else runs as. So the way to the page, MagicDNS and the trust in the CA are those of the
host, and all that the browser asked of the network is known afterwards.
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
#: What docs/quick-start.md tells people to do with the CA's file.
TRUST = (
    "mkdir -p $HOME/.pki/nssdb",
    "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n private-ai-house -i {file}",
)
#: An account without name or rights. The kernel knows the browser's packets by it.
ACCOUNT = 61718
#: What decides how a host finds names; those of this machine are hidden from the browser.
NAME_FILES = ("resolv.conf", "hosts", "nsswitch.conf")

#: Two of Chromium's own services have no switch. They are pointed at a port of loopback where nothing listens.
NOWHERE = "127.0.0.1"
QUIET_SWITCHES = (f"--gaia-url=http://{NOWHERE}:9", f"--component-updater=url-source=http://{NOWHERE}:9/")
#: With the defaults Chromium sends the shape of every form to content-autofill.googleapis.com.
QUIET_PREFERENCES = {
    "autofill": {"profile_enabled": False, "credit_card_enabled": False},
    "credentials_enable_service": False,
}

TABLE = "lab_browser"
#: Before any rule of the house, so that what those refuse is counted as asked. A run that was killed left its table.
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
    """A browser on a host; `names` and `packets` are known once it is closed."""

    context: BrowserContext
    #: Every name or address that any part of the browser wanted to speak to.
    names: set[str] = field(default_factory=set)
    #: (address, protocol, port) of every packet that it sent, answered or not.
    packets: set[tuple[str, str, int]] = field(default_factory=set)


def shot(page: Page, name: str) -> None:
    """Keep what the page looks like now, in reports/browser."""
    for left in (2, 1, 0):
        try:
            page.screenshot(path=SCREENSHOTS / f"{name}.png")
            return
        except Error as error:
            # So says Chromium while the page is being changed for another, such as its own for an error.
            if not left or "Unable to capture screenshot" not in str(error):
                raise
            page.wait_for_timeout(500)


@contextmanager
def browser_in(lab: TestLab, host: str, ca: str = "", **options: Any) -> Iterator[HostBrowser]:
    """A new Chromium on `host` of a lab that is up, without a past, trusting the CA `ca` (PEM) besides its own.

    `options` go to Playwright's launch_persistent_context. Pages that are open when a test fails are kept as
    failed-N.png. Takes 3 s on a quiet machine, and leaves nothing on host or machine but screenshots.
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
    """The browser's home: the host's name files, a store with the CA, a profile that is quiet."""
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
    """A program that becomes Chromium in the network of process `pid`, for Playwright to start.

    It only ever calls exec, so Playwright's pipes and signals reach Chromium itself.
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
    """Counts the account's packets in the network of `pid`; the set is filled at the end."""
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
    """Hosts out of Chromium's log of its network stack; each request of any kind resolves its host there first."""
    resolve = log["constants"]["logEventTypes"]["HOST_RESOLVER_MANAGER_REQUEST"]
    hosts = {event.get("params", {}).get("host", "") for event in log["events"] if event["type"] == resolve}
    names = {urlsplit(host if "://" in host else f"//{host}").hostname or host for host in hosts if host}
    return names - {NOWHERE}
