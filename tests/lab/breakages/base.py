"""Breakages that concern every host: names, accounts, secrets, clock, foreign programs."""

from __future__ import annotations

import shlex
from base64 import b64encode
from datetime import UTC, datetime

from operations.upgrade.scripts import PROGRAM
from plan.backup.restoring import RESTORED, Restored
from plan.upgrade.notes import FOLDER
from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import listen, until

ADMINISTRATOR = "The administrator decides which other programs run on a host; the deployment ends no foreign program."

#: The note of a restore. Its house does not matter here.
WAITING = Restored("deploy", "house", datetime(2026, 1, 1, tzinfo=UTC), "0" * 64, ("coordinator", "gateway"))

#: Checks that may fail too if a client cannot find its control server.
WITHOUT_CONTROL = (
    "headscale.nodes[*]",
    "headscale.policy*",
    "vpn.*",
    "message.*[HOST]",
    "tailscale.relay[HOST]",
    "host.services[HOST]",
)

#: A host puts the control server's name back by itself. This stops the unit that does so.
NO_KEEPER = "systemctl stop private-ai-names.path; "

#: An upgrade with no files and no data, as one that was killed leaves it, with the program that takes it back.
_JOB = (
    "PROGRAM=ollama OLD=0.1 NEW=0.2 UNITS=/etc/systemd/system AT_BOOT=no.service "
    "ACCOUNT= DATA= LEFT_OUT= TRIES=1 PAUSE=0"
)
CUT_OFF = (
    f"install -d -m 0700 {FOLDER} {FOLDER}/ollama; cd {FOLDER}/ollama; echo '{_JOB}' >job; "
    f"echo {b64encode(PROGRAM.read_bytes()).decode()} | base64 -d >upgrade; "
    "tar --create --files-from=/dev/null --file=before.tar; "
    "touch missing before look stop restart active stamp journal attempt; "
    "printf 'ollama 0.1 0.2 start %s 0\\n\\n' $(date +%s) >note"
)

BREAKAGES = (
    Breakage(
        "base.foreign-program",
        "gateway",
        "A foreign program listens on all addresses; the firewall still keeps everybody from it.",
        listen(8080),
        (Caught("host.owners[HOST]", "8080"),),
        by_hand=Repair(ADMINISTRATOR, "systemctl stop squatter"),
        sample=Round("single", 1),
    ),
    Breakage(
        "base.name-lost",
        "client",
        "A client no longer knows the name of the control server, and the unit that puts it back is stopped.",
        f"{NO_KEEPER}sed -i '/private-ai names: begin/,/private-ai names: end/d' /etc/hosts; "
        "systemctl restart tailscaled; sleep 5",
        (Caught("tailscale.joined[HOST]"), Caught("host.units[HOST]", "private-ai-names.path")),
        WITHOUT_CONTROL,
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.name-poisoned",
        "client",
        "On a client the name of the control server leads to a stranger's machine, and the unit that corrects it is "
        "stopped.",
        f"{NO_KEEPER}address=$(ip -4 -o address show dev host0 | sed 's/.*inet \\([0-9.]*\\)\\.20.*/\\1.66/'); "
        'sed "s/^[0-9a-f.:]* headscale.house.internal/$address headscale.house.internal/" /etc/hosts > /run/hosts; '
        "cat /run/hosts > /etc/hosts; systemctl restart tailscaled; sleep 5",
        (Caught("tailscale.joined[HOST]"), Caught("host.units[HOST]", "private-ai-names.path")),
        WITHOUT_CONTROL,
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.role-left-over",
        "client",
        "A host goes on with a service of a role that the inventory does not give it any more.",
        "printf '[Service]\\nExecStart=/usr/bin/sleep infinity\\n' > /etc/systemd/system/ollama.service; "
        "echo /etc/systemd/system/ollama.service >> /var/lib/private-ai/claimed; "
        "systemctl daemon-reload; systemctl start ollama",
        (Caught("host.roles[HOST]", "Ollama"),),
        by_hand=Repair(
            "A deployment removes nothing that somebody may still want: it warns, and names the command that does.",
            "systemctl stop ollama; rm /etc/systemd/system/ollama.service; systemctl daemon-reload; "
            "sed -i /ollama/d /var/lib/private-ai/claimed",
        ),
    ),
    Breakage(
        "base.restore-not-ended",
        "coordinator",
        "A host was restored from a backup, and no deployment has followed, which removes what was removed since.",
        f"printf %s {shlex.quote(WAITING.text)} > {RESTORED}",
        (Caught("restore.ended[HOST]", "a restore waits for a deployment"),),
        repaired_by=("Backup | End of a restore",),
    ),
    Breakage(
        "base.secret-readable",
        "gateway",
        "Every account that can enter its folder can read the gateway's token.",
        "chmod 0644 /etc/openclaw/token",
        (Caught("host.secret_files[HOST]", "token"),),
        (),
        ("OpenClaw | Folders, token",),
        topologies=("single", "split"),
    ),
    Breakage(
        "base.secret-copied",
        "gateway",
        "A copy of the token is in a file that every account can read.",
        "install -m 0644 /etc/openclaw/token /srv/note.txt",
        (Caught("host.secret_traces[HOST]", "/srv/note.txt"),),
        by_hand=Repair(
            "A copy is a file of somebody else. People who have read it know the token, so a new token is needed as "
            "well.",
            "rm /srv/note.txt",
        ),
    ),
    Breakage(
        "base.secret-in-the-journal",
        "gateway",
        "The token was written to the journal.",
        'logger "token $(cat /etc/openclaw/token)"; sleep 1',
        (Caught("host.secret_traces[HOST]", "journal"),),
        by_hand=Repair(
            "No program can remove a single line from the journal, and people who have read it know the token. A "
            "person deletes the old journal and the token; the deployment makes a new one.",
            "journalctl --quiet --rotate; journalctl --quiet --vacuum-time=1s; rm /etc/openclaw/token",
        ),
    ),
    Breakage(
        "base.secret-in-arguments",
        "gateway",
        "A program runs with the token among its arguments.",
        "systemd-run --quiet --unit=squatter --description=squatter sh -c 'sleep 86400; : '$(cat /etc/openclaw/token)",
        (Caught("host.secret_traces[HOST]", "the arguments"),),
        by_hand=Repair(
            f"{ADMINISTRATOR} A new token is needed as well.",
            "systemctl stop squatter",
        ),
    ),
    Breakage(
        "base.secret-in-an-environment",
        "gateway",
        "A program runs with the token in its environment.",
        "systemd-run --quiet --unit=squatter --description=squatter "
        "--setenv=TOKEN=$(cat /etc/openclaw/token) sleep 86400",
        (Caught("host.secret_traces[HOST]", "the environment"),),
        by_hand=Repair(f"{ADMINISTRATOR} A new token is needed as well.", "systemctl stop squatter"),
    ),
    Breakage(
        "base.secret-in-a-log",
        "gateway",
        "A program wrote the token to a log that only administrators read.",
        "install -m 0640 /etc/openclaw/token /var/log/program.log",
        (Caught("host.secret_traces[HOST]", "/var/log/program.log"),),
        by_hand=Repair(
            "The deployment does not change logs of other programs. A new token is needed as well.",
            "rm /var/log/program.log",
        ),
    ),
    Breakage(
        "base.clock-off",
        "client",
        "The clock is an hour ahead. The lab's hosts share the machine's clock, so `date` is replaced.",
        'printf \'#!/bin/sh\\nexec /usr/bin/date --date "1 hour" "$@"\\n\' > /usr/local/bin/date; '
        "chmod 0755 /usr/local/bin/date",
        (Caught("host.clock[HOST]"),),
        by_hand=Repair(
            "The deployment refuses a host whose clock is wrong, and never sets a clock: that is the task of the "
            "host's own time service.",
            "rm /usr/local/bin/date",
        ),
    ),
    Breakage(
        "base.ssh-passwords",
        "client",
        "SSH accepts passwords, also for root. This is only a warning, because the administrator decides it.",
        "printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\n' > /etc/ssh/sshd_config.d/00-passwords.conf; "
        "systemctl reload ssh; sleep 1",
        (Caught("host.ssh[HOST]", "(?i)password"),),
        by_hand=Repair(
            "The host's administrator decides how people log in; the deployment does not change SSH's configuration.",
            "rm /etc/ssh/sshd_config.d/00-passwords.conf; systemctl reload ssh",
        ),
    ),
    Breakage(
        "base.user-manager-gone",
        "gateway",
        "The gateway's account may no longer run services without a login, so its container stopped and would not "
        "start at boot.",
        f"loginctl disable-linger openclaw; {until('! test -S /run/user/$(id -u openclaw)/bus')}",
        (Caught("openclaw.cage[HOST]"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        ("openclaw.*", "host.*[HOST]", "container.*", "vpn.*", "message.*", "ca.server[GATEWAY-gateway]"),
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.gateway-elsewhere",
        "client",
        "On a client, /etc/hosts leads the gateway's name to a stranger's machine; the client does not ask the VPN.",
        "address=$(ip -4 -o address show dev host0 | sed 's/.*inet \\([0-9.]*\\)\\.20.*/\\1.66/'); "
        "echo $address home.vpn.house.internal >> /etc/hosts",
        (Caught("vpn.names[HOST]"), Caught("message.answered[HOST]")),
        ("message.*", "vpn.granted[HOST-GATEWAY]"),
        by_hand=Repair(
            "The deployment owns only a block of lines in this file; all other lines are the administrator's.",
            "sed '/ home.vpn.house.internal$/d' /etc/hosts > /run/hosts; cat /run/hosts > /etc/hosts",
        ),
    ),
    Breakage(
        "base.upgrade-cut-off",
        "model_host",
        "An upgrade of Ollama was killed in the middle, and nothing has taken it back.",
        CUT_OFF,
        (Caught("upgrade.ended[HOST]", "ollama 0.1 -> 0.2: start"),),
        (),
        ("Upgrade | What was cut off",),
    ),
    Breakage(
        "base.account-in-group",
        "gateway",
        "The gateway's account can give commands to the control server: it is in the group of its socket.",
        "usermod --append --groups headscale openclaw",
        (Caught("host.accounts[HOST]", "openclaw is in the groups openclaw headscale"),),
        (),
        ("Base | Packages, accounts, names",),
    ),
)
