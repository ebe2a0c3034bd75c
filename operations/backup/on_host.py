"""A host's part of a backup: what cannot be made again is copied while all runs, checked and encrypted there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facts.ca import CA_FOLDER
from facts.engine.component_state import looking, through_manager
from operations.engine.shell import REMOVE, into_place
from plan.backup.manifest import ABOUT, SUMS
from plan.backup.places import ARCHIVES, DONE, ENCRYPTED, HEADSCALE, HEADSCALE_KEYS, INSIDE, WORK
from plan.devices.vpn_nodes import RECORD
from plan.engine.errors import STRANGE
from plan.engine.stamp import PATH as STAMP
from plan.engine.stamp import Stamp, parse_stamp
from plan.openclaw.configuration import ACCOUNT

#: Health's: a program that an administrator has put there, and what changes its rights.
HOOKS = ("/etc/private-ai/health-notify", "/etc/systemd/system/private-ai-health-notify@.service.d")


@dataclass(frozen=True)
class Made:
    """What a host says of its encrypted part: bytes and digest; path -> bytes of each file in it; name -> version."""

    size: int
    sha256: str
    holds: Mapping[str, int]
    programs: Mapping[str, str]


def make_script(roles: Sequence[str], recipients: Sequence[str], token: str) -> str:
    """Make ENCRYPTED, with standard input as ABOUT in it, and print what `parse_made` reads.

    What is not encrypted lies in a folder of root's, which is removed at the end of the script whatever happens; one
    that was cut off with its host's power is removed by the next backup or deployment.
    """
    lines = [
        "set -e; umask 077",
        f"install -d -o root -g root -m 0700 {WORK}; cd -P {WORK}; find . -mindepth 1 -delete",
        f"trap 'cd {WORK}; rm -rf plain' EXIT; trap 'exit 1' HUP INT TERM",
        "mkdir plain plain/files; cd plain/files",
        f"cat >{ABOUT}; cat {STAMP} >deployed.json",
        *(_coordinator() if "coordinator" in roles else ()),
        *(_gateway(token) if "gateway" in roles else ()),
        "mkdir -p hooks",
        *(f"test ! -e {hook} || cp -rL {hook} hooks/" for hook in HOOKS),
        f"find . -type f -printf '%P\\0' | sort -z | xargs -0 sha256sum >../{SUMS}; mv ../{SUMS} .",
        "tar --create --file ../plain.tar --sort=name --owner=0 --group=0 --mtime=@0 -- *",
        "find . -type f -printf 'holds %s %P\\n'; printf 'stamp '; tr -d '\\n' <deployed.json; echo",
        # Public keys.
        f"printf '%s\\n' {' '.join(map(shlex.quote, recipients))} >../recipients",
        f"cd {WORK}; age --encrypt --recipients-file plain/recipients --output part.age plain/plain.tar; sync part.age",
        "printf 'part %s %s\\n' $(stat -c %s part.age) $(sha256sum <part.age | cut -d' ' -f1)",
    ]
    return "\n".join(lines)


def _own(path: str, account: str) -> str:
    """Ends the script unless this is a file of the account's: it may have put a link to another file there."""
    is_one = f'test -f {path} && test ! -L {path} && test "$(stat -c %U {path})" = {account}'
    return f"{is_one} || {{ echo {shlex.quote(f'{path} is not a file of {account}. {REMOVE}')} >&2; exit 1; }}"


def _coordinator() -> list[str]:
    database = f"{HEADSCALE}/db.sqlite"
    files = [database, *(f"{HEADSCALE}/{name}" for name in HEADSCALE_KEYS)]
    return [
        "mkdir headscale ca",
        *(_own(path, "headscale") for path in files),
        # SQLite's own way to copy a database that is being written to. A copy of the file may lack all of it: what is
        # new lies in another file.
        f"sqlite3 {database} '.timeout 10000' '.backup headscale/db.sqlite'",
        'said=$(sqlite3 headscale/db.sqlite "PRAGMA integrity_check; SELECT count(*) >= 0 FROM nodes" | tr "\\n" " ")',
        'if [ "$said" != "ok 1 " ]; then',
        """echo "the copy of Headscale's database is damaged: $said" >&2; exit 1; fi""",
        "rm -f headscale/db.sqlite-*",
        *(f"cat {HEADSCALE}/{name} >headscale/{name}" for name in HEADSCALE_KEYS),
        f"cat {CA_FOLDER}/ca.key >ca/ca.key; cat {CA_FOLDER}/ca.crt >ca/ca.crt",
        'if [ "$(openssl pkey -in ca/ca.key -pubout)" != "$(openssl x509 -in ca/ca.crt -noout -pubkey)" ]; then',
        'echo "the key of the authority is not that of its certificate" >&2; exit 1; fi',
        f"test ! -e {RECORD} || cat {RECORD} >devices.json",
    ]


def _gateway(token: str) -> list[str]:
    archive = f'cd {ARCHIVES} && set -- *.tar.gz && test $# = 1 && cat -- "$1"'
    empty = f"find {ARCHIVES} -mindepth 1 -delete"
    create = f"openclaw backup create --output {INSIDE} --verify --json"
    made = through_manager(ACCOUNT, f"podman exec --env TMPDIR={INSIDE} openclaw {create}")
    return [
        "mkdir openclaw",
        # The account's own folder: root takes nothing there into its hands.
        f"trap '{looking(ACCOUNT, empty)}; cd {WORK}; rm -rf plain' EXIT",
        looking(ACCOUNT, empty),
        f"{made} </dev/null >../said 2>&1 || {{ tail -n 5 ../said >&2; exit 1; }}",
        f"{looking(ACCOUNT, f'sh -c {shlex.quote(archive)}')} >openclaw/state.tar.gz",
        "gzip --test openclaw/state.tar.gz",
        _own(token, ACCOUNT),
        f"cat {token} >openclaw/token",
    ]


def parse_made(text: str) -> Made:
    """What make_script printed. Raises ValueError when it is not understood."""
    holds: dict[str, int] = {}
    stamp: Stamp | None = None
    part: tuple[int, str] | None = None
    try:
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "holds":
                size, _, path = rest.partition(" ")
                holds[path] = int(size)
            elif word == "stamp":
                stamp = parse_stamp(rest)
            elif word == "part":
                form = re.fullmatch(r"(\d+) ([0-9a-f]{64})", rest)
                part = (int(form[1]), form[2]) if form else None
    except STRANGE as error:
        raise ValueError(f"the answer is not understood: {error!r}") from error
    if part is None or stamp is None or ABOUT not in holds:
        raise ValueError("the answer was cut short, or the host's stamp is not understood")
    return Made(*part, holds, stamp.what.programs)


def done_script() -> str:
    """Note that the host is part of a whole backup, made now, and remove what it made for it."""
    return f"umask 022; date +%s >{DONE}.new; {into_place(f'{DONE}.new', DONE)}; rm -f {ENCRYPTED}"
