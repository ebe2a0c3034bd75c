"""What an interrupted run must not leave behind on a host."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.lab.conftest import TestLab

#: A script that prints unfinished files, and temporary files of pyinfra and of this project. The files of containers do
#: not belong to the project. A killed apt-get leaves a folder of links in /tmp until the next boot. Such a folder looks
#: the same as one that is in use, so it is left out.
_FILES = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/openclaw -o -path /usr \) -prune -o \
  \( -name '*.new' -o -name '*.tried' -o -name 'firewall.unconfirmed' -o -name 'firewall.before' -o -name '*.part' \) \
  -newer /etc/machine-id -print
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' ! -name 'container*' \
  ! -name 'apt-dpkg-install-*' -print
find /var/lib/private-ai/incoming -mindepth 1 -print
for folder in /var/lib/ollama /var/lib/openclaw; do
  test ! -d $folder || find $folder -maxdepth 1 -name '.private-ai-*' -print
done
"""
#: A script that prints whatever of a house is on a host: files and folders by name, accounts, units, its table, its
#: lines in files of others. What Debian's packages and the journal have is not the house's.
OURS = r"""
find / /run -xdev \( -path /proc -o -path /sys -o -path /run/log -o -path /run/systemd -o -path /var/log \
  -o -path /usr/share -o -path /usr/lib -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt \) -prune \
  -o \( -name '*private-ai*' -o -name '*private_ai*' -o -name '*headscale*' -o -name '*tailscale*' -o -name '*ollama*' \
  -o -name '*openclaw*' \) -print
getent passwd | grep -E '^(headscale|ollama|ollama-vpn|openclaw):'
systemctl list-units --all --plain --no-legend 'private-ai*' 'headscale*' 'tailscale*' 'ollama*' 'openclaw*'
nft list tables 2>/dev/null | grep private_ai
grep -s private-ai /etc/hosts /etc/ca-certificates.conf
grep -sE '^(headscale|ollama|openclaw)' /etc/subuid /etc/subgid
true
"""
_IMAGES = (
    "test ! -d /etc/openclaw || for what in 'images --quiet --no-trunc' 'ps --all --quiet'; do "
    "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect podman $what | sort -u | wc -l; done"
)


def left_over(lab: TestLab, host: str) -> list[str]:
    """Files, images and containers that should not be on a host of a deployed house any more."""
    found = [line for line in lab.ssh(host, _FILES).splitlines() if line]
    counts = lab.ssh(host, _IMAGES).split()
    if counts not in ([], ["1", "1"]):
        found.append(f"images and containers: {counts}")
    return found


def keys_left(lab: TestLab) -> list[int]:
    """The ids of join keys with which somebody could still join."""
    coordinator = {"single": "home", "split": "hub"}[lab.topology]
    keys = json.loads(lab.ssh(coordinator, "headscale preauthkeys list -o json")) or []
    now = datetime.now(UTC).timestamp()
    return [int(key["id"]) for key in keys if not key.get("used") and int(key["expiration"]["seconds"]) > now]
