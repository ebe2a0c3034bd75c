"""What every host is: names, accounts, secrets, clock, foreign programs."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair
from tests.lab.breakages.shell import listen, until

ADMINISTRATOR = "What else runs on a host is its administrator's business; the deployment ends no foreign program."

#: What may fail on a client that does not find its control server.
WITHOUT_CONTROL = (
    "headscale.nodes[*]",
    "headscale.policy*",
    "vpn.*",
    "message.*[HOST]",
    "tailscale.relay[HOST]",
    "host.services[HOST]",
)

#: A host puts the control server's name back by itself; here that is shut off, too.
NO_KEEPER = "systemctl stop private-ai-names.path; "

BREAKAGES = (
    Breakage(
        "base.foreign-program",
        "gateway",
        "A foreign program listens on all addresses; the firewall still keeps everybody from it.",
        listen(8080),
        (Caught("host.owners[HOST]", "8080"),),
        by_hand=Repair(ADMINISTRATOR, "systemctl stop squatter"),
        sample="single",
    ),
    Breakage(
        "base.name-lost",
        "client",
        "A client no longer knows the name of the control server, and does not put it back.",
        f"{NO_KEEPER}sed -i '/private-ai names: begin/,/private-ai names: end/d' /etc/hosts; "
        "systemctl restart tailscaled; sleep 5",
        (Caught("tailscale.joined[HOST]"), Caught("host.units[HOST]", "private-ai-names.path")),
        WITHOUT_CONTROL,
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.name-poisoned",
        "client",
        "On a client the name of the control server leads to a stranger's machine, and is not put right there.",
        f"{NO_KEEPER}address=$(ip -4 -o address show dev host0 | sed 's/.*inet \\([0-9.]*\\)\\.20.*/\\1.66/'); "
        'sed "s/^[0-9a-f.:]* headscale.house.internal/$address headscale.house.internal/" /etc/hosts > /run/hosts; '
        "cat /run/hosts > /etc/hosts; systemctl restart tailscaled; sleep 5",
        (Caught("tailscale.joined[HOST]"), Caught("host.units[HOST]", "private-ai-names.path")),
        WITHOUT_CONTROL,
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.secret-readable",
        "gateway",
        "The gateway's token can be read by every account that gets into its folder.",
        "chmod 0644 /etc/openclaw/token",
        (Caught("host.secret_files[HOST]", "token"),),
        (),
        ("OpenClaw | Folders, token",),
        topologies=("single", "split"),
    ),
    Breakage(
        "base.secret-copied",
        "gateway",
        "A copy of the token lies where every account can read it.",
        "install -m 0644 /etc/openclaw/token /srv/note.txt",
        (Caught("host.secret_traces[HOST]", "/srv/note.txt"),),
        by_hand=Repair(
            "A copy is a file of somebody else. Who read it has the token: that one has to go, too, as below.",
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
            "No program can take a line back out of the journal, and who read it has the token. The journal goes, and "
            "the token too; the deployment makes a new one.",
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
            "Logs of other programs are not the deployment's. A new token is needed as well.", "rm /var/log/program.log"
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
            "The deployment refuses a host whose clock is off, and sets no clock: whoever keeps the host's time does.",
            "rm /usr/local/bin/date",
        ),
    ),
    Breakage(
        "base.ssh-passwords",
        "client",
        "SSH accepts passwords, root's too. A warning: it is the administrator's choice.",
        "printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\n' > /etc/ssh/sshd_config.d/00-passwords.conf; "
        "systemctl reload ssh; sleep 1",
        (Caught("host.ssh[HOST]", "(?i)password"),),
        by_hand=Repair(
            "How people log in belongs to the host's administrator; the deployment does not touch SSH's configuration.",
            "rm /etc/ssh/sshd_config.d/00-passwords.conf; systemctl reload ssh",
        ),
    ),
    Breakage(
        "base.user-manager-gone",
        "gateway",
        "The gateway's account no longer lingers, so its container stopped and would not start at boot.",
        f"loginctl disable-linger openclaw; {until('! test -S /run/user/$(id -u openclaw)/bus')}",
        (Caught("openclaw.cage[HOST]"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        ("openclaw.*", "host.*[HOST]", "container.*", "vpn.*", "message.*", "ca.server[GATEWAY-gateway]"),
        ("Base | Packages, accounts, names",),
    ),
    Breakage(
        "base.gateway-elsewhere",
        "client",
        "On a client the gateway's name leads to a stranger's machine, before the VPN's names are asked.",
        "address=$(ip -4 -o address show dev host0 | sed 's/.*inet \\([0-9.]*\\)\\.20.*/\\1.66/'); "
        "echo $address home.vpn.house.internal >> /etc/hosts",
        (Caught("vpn.names[HOST]"), Caught("message.answered[HOST]")),
        ("message.*", "vpn.granted[HOST-GATEWAY]"),
        by_hand=Repair(
            "The deployment owns a block of lines in this file; what else stands there is its administrator's.",
            "sed '/ home.vpn.house.internal$/d' /etc/hosts > /run/hosts; cat /run/hosts > /etc/hosts",
        ),
    ),
    Breakage(
        "base.account-in-group",
        "gateway",
        "The gateway's account may give orders to the control server: it is in the group of its socket.",
        "usermod --append --groups headscale openclaw",
        (Caught("host.accounts[HOST]", "openclaw is in the groups openclaw headscale"),),
        (),
        ("Base | Packages, accounts, names",),
    ),
)
