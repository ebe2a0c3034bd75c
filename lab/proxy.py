"""The package proxy: tinyproxy at the controller's addresses in the lab. It lets the lab's hosts reach the Debian
mirror only."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from urllib.parse import urlsplit

from lab import cgroups
from lab.machine import Mirrors
from lab.network import PROXY_PORT
from lab.state import LabError, Process, State
from lab.topology import Lab


def configuration(lab: Lab, mirrors: Mirrors, filter_file: str, upstream: str = "") -> str:
    """The text of tinyproxy.conf(5). `upstream` is the machine's own proxy as HOST:PORT, if apt uses one here."""
    tls = any(url.startswith("https:") for url in mirrors.urls)
    lines = [
        # tinyproxy reads the filter while it is still root, so `nobody` need not be able to read that file.
        "User nobody",
        "Group nogroup",
        f"Port {PROXY_PORT}",
        f"Listen {lab.controller.v4}",
        f"Listen {lab.controller.v6}",
        f"Allow {lab.lan_v4}",
        f"Allow {lab.lan_v6}",
        "Timeout 120",
        "MaxClients 60",
        "LogLevel Notice",
        "DisableViaHeader Yes",
        f'Filter "{filter_file}"',
        "FilterDefaultDeny Yes",
        "FilterType ere",
        "FilterURLs On",
        # With 0, tinyproxy refuses every CONNECT.
        f"ConnectPort {443 if tls else 0}",
    ]
    if upstream:
        lines.append(f"Upstream http {upstream}")
    return "\n".join(lines) + "\n"


def filters(mirrors: Mirrors) -> str:
    """The addresses that hosts may ask for: a regular expression per line, for the mirror's archives only."""
    lines = []
    for url in sorted(mirrors.urls):
        parts = urlsplit(url)
        if parts.scheme == "https":
            lines.append(f"^{re.escape(parts.netloc)}:443$")
        else:
            lines.append(f"^{re.escape(url)}/")
    # Python also escapes characters that need no escape. POSIX expressions do not allow an escaped minus or slash.
    return "\n".join(lines).replace("\\-", "-").replace("\\/", "/") + "\n"


def start(lab: Lab, state: State, mirrors: Mirrors) -> None:
    """Start the proxy if it does not run. Returns when it accepts connections."""
    if all(process.alive() for process in state.processes("proxy").values()) and state.processes("proxy"):
        return
    filter_file = state.directory / "proxy.filter"
    filter_file.write_text(filters(mirrors))
    settings = state.directory / "proxy.conf"
    settings.write_text(configuration(lab, mirrors, str(filter_file), _upstream()))
    with state.proxy_log.open("ab") as log:
        process = subprocess.Popen(
            ["tinyproxy", "-d", "-c", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: cgroups.enter(state.label, "proxy"),
        )
    state.write_processes("proxy", {"tinyproxy": Process.of(process.pid)})
    for _ in range(100):
        if process.poll() is not None:
            break
        try:
            for address in (lab.controller.v4, lab.controller.v6):
                socket.create_connection((str(address), PROXY_PORT), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise LabError(f"the package proxy does not answer:\n{state.proxy_log.read_text()[-2000:]}")


def _upstream() -> str:
    done = subprocess.run(
        ["apt-config", "shell", "P", "Acquire::http::Proxy"], capture_output=True, text=True, check=False
    )
    match = re.search(r"https?://(?:[^@/']*@)?([^/']+)", done.stdout)
    return match[1] if match else ""
