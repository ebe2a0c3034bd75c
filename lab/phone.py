"""The `phone`: a person's new device, with Tailscale as its package installs it.

The device knows nothing of the house: no name, no CA, no key, and none of the deployment's settings for Tailscale.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from artifacts.packages import this_cpu
from artifacts.store import find_program
from lab.state import LabError

# The unit of Tailscale's own Debian package, without the parts that only matter on a desktop.
UNIT = """\
[Unit]
Description=Tailscale node agent
Wants=network-pre.target
After=network-pre.target

[Service]
Type=notify
EnvironmentFile=/etc/default/tailscaled
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state --socket=/run/tailscale/tailscaled.sock \
  --port=${PORT} $FLAGS
ExecStopPost=/usr/sbin/tailscaled --cleanup
Restart=on-failure
RuntimeDirectory=tailscale
StateDirectory=tailscale
StateDirectoryMode=0700
CacheDirectory=tailscale

[Install]
WantedBy=multi-user.target
"""
_UNIT_FILE = "usr/lib/systemd/system/tailscaled.service"
#: In the form of lab.guest.Guest.
TEXTS = {_UNIT_FILE: (UNIT, 0o644), "etc/default/tailscaled": ('PORT="41641"\nFLAGS=""\n', 0o644)}
LINKS = {"etc/systemd/system/multi-user.target.wants/tailscaled.service": f"/{_UNIT_FILE}"}


def lay_programs(root: Path) -> None:
    """Copy Tailscale's programs from the cache to the paths of its Debian package. LabError if the cache has none."""
    found = find_program("tailscale", this_cpu(), "auto")
    if found is None:
        raise LabError("tailscale is not in the cache; a phone needs it. Next: run `lab/prepare`, then this again")
    for file in found.files:
        name = Path(file.path).name
        target = root / ("usr/sbin" if name == "tailscaled" else "usr/bin") / name
        shutil.copyfile(found.directory / file.path, target)
        target.chmod(0o755)
