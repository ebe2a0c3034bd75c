"""What a host has of the house: one read-only remote command, parsed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from facts.base.profile import CONTROL_NAMES
from facts.engine.component_state import looking
from plan.engine.claims import CLAIMED
from plan.engine.errors import AGAIN, STRANGE, shown
from plan.firewall.rules import TABLE
from plan.removal.leaving import QUADLETS, Found

#: Folders hold names that others chose: one with a line's end in it is told with a question mark.
_LINES = r"tr '\n\000' '?\n'"
#: Prints where something is mounted, at the folder "$1" or below it.
MOUNTS = (
    'mounts() { awk -v r="$(realpath -- "$1")" '
    "'$5 == r || index($5, r \"/\") == 1 { print $5 }' /proc/self/mountinfo; }"
)


class RemovalFound(FactBase[Found]):
    """What is there of these paths, folders, units and accounts. Cost: one remote command, longer with many files.

    `account` is the one that has images, "" for none; `certificate` where this house's certificate would lie.
    """

    def command(
        self,
        paths: Sequence[str],
        folders: Sequence[str],
        units: Sequence[str],
        accounts: Sequence[str],
        account: str,
        certificate: str,
    ) -> str:
        images = looking(account, "podman image ls --format '{{.Repository}}:{{.Tag}}'")
        there = (
            f"test -e {shlex.quote(f'/var/lib/systemd/linger/{account}')} && "
            f"{{ {images} 2>/dev/null | sed 's/^/image /'; }}"
        )
        units_shown = "systemctl show -p Id,LoadState,ActiveState --"
        return "\n".join(
            [
                MOUNTS,
                'p() { for p; do if [ -L "$p" ]; then printf "link %s|%s\\n" "$p" "$(readlink -- "$p")"; '
                'elif [ -e "$p" ]; then printf "path %s\\n" "$(du -sx -B1 -- "$p")"; fi; done; }',
                f"p {' '.join(map(shlex.quote, paths))}",
                # Of the containers of an account that is known by its number.
                f"for n in $(getent passwd {account or 'nobody'} | cut -d: -f3); do "
                f'p "{QUADLETS}/$n/openclaw.container"; done',
                f'for f in {" ".join(map(shlex.quote, folders))}; do [ -d "$f" ] && [ ! -L "$f" ] || continue',
                f'find "$f" -mindepth 1 -maxdepth 1 -exec du -sx -B1 -0 -- {{}} + | {_LINES} | sed "s|^|entry $f |"',
                'mounts "$f" | sed "s|^|mount $f |"; done',
                *(f"{units_shown} {shlex.join(units)} | sed 's/^/unit /'" for _ in units[:1]),
                *(f"getent passwd {shlex.join(accounts)} | sed 's/^/account /'" for _ in accounts[:1]),
                *([there] if account else []),
                f"sed 's/^/claimed /' {CLAIMED} 2>/dev/null",
                f"grep -qs '{CONTROL_NAMES.begin}' {CONTROL_NAMES.path} && echo names",
                f"nft list table inet {TABLE} >/dev/null 2>&1 && echo table",
                'for c in /usr/local/share/ca-certificates/private-ai-*.crt; do [ ! -e "$c" ] || '
                'echo "authority ${c##*/}"; done',
                f"sed 's/^/pem /' {shlex.quote(certificate)} 2>/dev/null",
                "echo end",
            ]
        )

    def process(self, output: list[str]) -> Found:
        if not output or output[-1] != "end":
            raise FactProcessError(f"what the host has of the house was cut short: {shown(output[-1:])}. {AGAIN}")
        try:
            return parse_found(output[:-1])
        except STRANGE as error:
            raise FactProcessError(
                f"what the host has of the house is not understood: {shown(error)}. {AGAIN}"
            ) from error


def parse_found(output: Sequence[str]) -> Found:
    """What the command's lines say. Raises what STRANGE names."""
    paths: dict[str, int] = {}
    links: dict[str, str] = {}
    entries: dict[str, list[str]] = {}
    mounts: dict[str, list[str]] = {}
    accounts: dict[str, int] = {}
    units: dict[str, dict[str, str]] = {}
    said: dict[str, list[str]] = {}
    unit: dict[str, str] = {}
    for line in output:
        word, _, rest = line.partition(" ")
        if word == "path":
            count, _, path = rest.partition("\t")
            paths[path] = int(count)
        elif word == "link":
            path, _, target = rest.partition("|")
            paths[path], links[path] = 0, target
        elif word == "entry":
            folder, _, entry = rest.partition(" ")
            count, _, path = entry.partition("\t")
            entries.setdefault(folder, []).append(path)
            paths.setdefault(path, int(count))
        elif word == "mount":
            folder, _, at = rest.partition(" ")
            mounts.setdefault(folder, []).append(at)
        elif word == "account":
            name, _, number, *_ = rest.split(":")
            accounts[name] = int(number)
        elif word == "unit":
            name, _, value = rest.partition("=")
            unit[name] = value
            if not rest:
                unit = {}
            elif "Id" in unit:
                units[unit["Id"]] = unit
        else:
            said.setdefault(word, []).append(rest)
    return Found(
        paths=paths,
        links=links,
        entries={folder: tuple(each) for folder, each in entries.items()},
        mounts={folder: tuple(each) for folder, each in mounts.items()},
        accounts=accounts,
        units={name: each["ActiveState"] for name, each in units.items() if each["LoadState"] != "not-found"},
        images=tuple(sorted(said.get("image", ()))),
        claimed=frozenset(said.get("claimed", ())),
        names="names" in said,
        table="table" in said,
        authorities=tuple(name.removesuffix(".crt") for name in said.get("authority", ())),
        authority="\n".join(said.get("pem", ())),
    )
