"""Take from a host what the house has put there, and from the VPN what has left it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator

import click
from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from facts.engine.component_state import unit_call
from facts.removal import MOUNTS
from operations.devices.nodes import end_at_gateway, tidy_script
from operations.engine.announced_changes import differs
from operations.engine.component import install_block
from operations.engine.one_run import hold
from operations.engine.run import this_run
from operations.engine.run_on_host import RemoteError, run_on
from operations.engine.shell import into_place
from operations.firewall import BEFORE, ROLLBACK, confirmed, try_rules, undo
from plan.base.profile import LAST_RUN
from plan.devices.vpn_nodes import Tidy
from plan.engine.claims import CLAIMED, UNITS
from plan.engine.difference import Change
from plan.engine.want import Block
from plan.firewall.rules import TABLE, TRIED, UNCONFIRMED
from plan.house.house import House
from plan.removal.belongings import EMPTY_AT_LAST, FIREWALL_UNIT, LAST
from plan.removal.leaving import QUADLETS, Leaving, PartLeaving, quadlet

#: Of the one account that has a systemd manager of its own.
OWN_UNITS = "openclaw-warm.timer openclaw.service"
#: Where accounts leave files outside their folders.
SHARED = "/tmp /var/tmp /dev/shm"


@operation()
def out_of_vpn(house: House, leaves: str, wanted: Tidy) -> Generator[FunctionCommand, None, None]:
    """Own the absence of the host `leaves` from the VPN: no node, no key, no browser pairing, no open connection.

    The coordinator does it, with the gateways. When a gateway cannot be reached the host is out of the VPN all the
    same, and the operation fails so that it is run again.
    """
    differs(*map(Change, wanted.announced or [f"browsers of {leaves} are looked for at the gateways"]))
    yield FunctionCommand(_out, (house, leaves, wanted), {})


def _out(state: State, host: Host, house: House, name: str, wanted: Tidy) -> bool:
    begun, gateways = time.monotonic(), [each.name for each in house.gateways if each.name != name]
    try:
        run_on(host, tidy_script(wanted))
        click.echo(f"\n    {name}: out of the VPN after {time.monotonic() - begun:.1f} s", err=True)
        for gateway in gateways:
            click.echo(f"    {end_at_gateway(host, house, wanted.addresses, inventory.get_host(gateway))}", err=True)
    except RemoteError as error:
        logger.error(f"{host.print_prefix}{name} is not out of the VPN everywhere: {error}. Next: run this again")
        return False
    return True


@operation()
def cleared(
    wanted: Leaving, part: PartLeaving, names: Block | None, authority: tuple[str, ...]
) -> Generator[StringCommand, None, None]:
    """Own the absence of one part of the house on this host, but for what `wanted` says that stays.

    Where they go with this part, `names` are the house's lines in /etc/hosts, and `authority` the files of its
    certificate. What a run that was cut off has left goes as well.
    """
    if not (part or names):
        host.noop("nothing of it is here")
        return
    differs(Change(part.part.name, "removed"))
    yield StringCommand(stopped(part))
    yield StringCommand(gone(part, wanted, names, authority))


@operation()
def forgotten(wanted: Leaving) -> Generator[StringCommand, None, None]:
    """Own the host's note of places taken, when roles have left it and the house stays. The last step."""
    differs(Change(f"file {CLAIMED}", "written", "places are given back"))
    yield StringCommand("\n".join(["set -e; umask 022", *_note(wanted)]))


@operation()
def opened(wanted: Leaving, part: PartLeaving) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the absence of the house's firewall, and of the last files and notes on this host.

    As with new rules, the host is told to take them back before they change, and a new SSH connection confirms: it
    stops the timer and removes the files. Until then a restart brings the rules back.
    """
    if not wanted:
        host.noop("nothing of it is here")
        return
    differs(Change("firewall, last files and notes", "removed"))
    last = gone(part, wanted)
    if not wanted.table:
        yield StringCommand("\n".join(["set -e", undo(), *_closed(), last, *_notes(wanted)]))
        return
    yield StringCommand(try_without())
    yield FunctionCommand(confirmed, ("\n".join([stop_timer(), *_closed(), last, *_notes(wanted)]),), {})


@operation()
def unheld(last_run: str) -> Generator[StringCommand, None, None]:
    """Own the absence of the note of runs (operations/engine/one_run.py): of this one, if it has held the host, and of
    an earlier one that was cut off, whose text is `last_run`."""
    if not (last_run or this_run().holds.held):
        host.noop("no run has left a note")
        return
    hold()
    yield StringCommand(f"rm -rf {LAST_RUN.rpartition('/')[0]}")


def try_without() -> str:
    """Take the house's table away, after the host has been told to bring it back."""
    table = shlex.quote(f"table inet {TABLE}\ndelete table inet {TABLE}\n")
    return f"set -e; umask 077\n{undo()}\nprintf %s {table} > {TRIED}\n{try_rules(f'nft -f {TRIED}')}"


def stop_timer() -> str:
    """Have the rules stay away. Fails when they were taken back already."""
    return "\n".join(
        [
            "set -e",
            f"systemctl stop {ROLLBACK}.timer",
            f"test -e {UNCONFIRMED} || {{ echo 'they were taken back already' >&2; exit 1; }}",
        ]
    )


def _closed() -> list[str]:
    """The unit, without an error when its table has gone before it."""
    return [
        _disabled(FIREWALL_UNIT),
        f"if {_known(FIREWALL_UNIT)}; then",
        f"nft 'table inet {TABLE} {{ }}'; systemctl stop {FIREWALL_UNIT}; fi",
        f"nft 'table inet {TABLE}; delete table inet {TABLE}'",
        f"rm -f {UNCONFIRMED} {BEFORE} {BEFORE}.new {TRIED}",
    ]


def _notes(wanted: Leaving) -> list[str]:
    """The note of places taken comes last: as long as it is there, the next run knows what is the house's."""
    folders = " ".join(EMPTY_AT_LAST)
    # Where nothing is left in them.
    return [*_note(wanted), f"for f in {folders}; do rmdir -- $f 2>/dev/null || :; done"]


def _note(wanted: Leaving) -> list[str]:
    if not wanted.note:
        return [f"rm -f {CLAIMED} {CLAIMED}.new"]
    lines = " ".join(map(shlex.quote, wanted.note))
    return [f"printf '%s\\n' {lines} > {CLAIMED}.new; {into_place(f'{CLAIMED}.new', CLAIMED)}"]


def stopped(part: PartLeaving) -> str:
    """End what runs of a part: its units, and every process of its accounts."""
    lines = ["set -e"]
    units = part.units if part.part != LAST else ()
    for unit in units:
        lines.append(f"if {_known(unit)}; then systemctl stop {shlex.quote(unit)}; fi; {_disabled(unit)}")
    lines += [ended(name) for name in (*part.accounts, *part.idle)]
    return "\n".join(lines)


def _known(unit: str) -> str:
    """A test that succeeds when systemd knows a unit: of another one it would not say that it is off."""
    return f'[ "$(systemctl show --property=LoadState --value {shlex.quote(unit)})" != not-found ]'


def _disabled(unit: str) -> str:
    """Take away the links by which a unit starts. Of a unit whose file has gone, as after a removal that was cut off,
    systemctl has none and would fail."""
    return f"[ ! -e {shlex.quote(f'{UNITS}/{unit}')} ] || systemctl disable --quiet {shlex.quote(unit)}"


def ended(account: str) -> str:
    """End an account's systemd manager and all its processes, and remove what they left where everybody may write."""
    name = shlex.quote(account)
    processes = "find /proc -maxdepth 1 -name '[0-9]*' -uid \"$n\" -printf '%f ' 2>/dev/null"
    return "\n".join(
        [
            f"if n=$(id -u {name} 2>/dev/null); then",
            f'[ ! -S "/run/user/$n/bus" ] || {unit_call(account, f"stop {OWN_UNITS}")} || :',
            f"[ ! -e /var/lib/systemd/linger/{name} ] || loginctl disable-linger {name}",
            'systemctl stop "user@$n.service" "user-$n.slice" || :',
            f'for i in $(seq 50); do p=$({processes}) || :; [ -n "$p" ] || break; kill -KILL $p 2>/dev/null || :; '
            "sleep 0.2; done",
            f'find {SHARED} -xdev -mindepth 1 -maxdepth 1 -uid "$n" -exec rm -rf --one-file-system -- {{}} +',
            "fi",
        ]
    )


def gone(part: PartLeaving, wanted: Leaving, names: Block | None = None, authority: tuple[str, ...] = ()) -> str:
    """Remove a part's files, then its accounts. Nothing is followed: neither links nor what is mounted."""
    # The note comes after all others.
    paths = [path for path in part.paths if path not in (CLAIMED, *authority)]
    lines = ["set -e", MOUNTS, _NOTHING_MOUNTED]
    # First what cannot be seen any more when the files have gone.
    if names:
        lines.append(f"({install_block(names, gone=True)}) <<'LINES'\n{names.text}LINES")
    if authority:
        lines.append(distrusted(*authority))
    if paths:
        quoted = " ".join(map(shlex.quote, paths))
        lines.append(f'for p in {quoted}; do free "$p"; rm -rf --one-file-system -- "$p"; done')
    for each in part.emptied:
        kept = " ".join(f"! -name {shlex.quote(name)}" for name in each.kept)
        folder = shlex.quote(each.path)
        find = f"find {folder} -xdev -mindepth 1 -maxdepth 1 {kept}"
        lines.append(
            f"if [ -d {folder} ] && [ ! -L {folder} ]; then free {folder} {shlex.join(each.kept)}; "
            f"{find} -exec rm -rf --one-file-system -- {{}} +; fi"
        )
    for name in (*part.accounts, *part.idle):
        if part.part.role == "gateway":
            folder = quadlet(wanted.numbers[name]).rpartition("/")[0]
            lines += [_if_empty(path) for path in (folder, QUADLETS, QUADLETS.rpartition("/")[0])]
    for name in map(shlex.quote, part.accounts):
        lines.append(f"! getent passwd {name} >/dev/null || userdel {name}")
        lines.append(f"! getent group {name} >/dev/null || groupdel {name}")
    if part.units or part.part.role == "gateway":
        lines.append("systemctl daemon-reload")
        lines += [f"systemctl reset-failed {shlex.quote(unit)} 2>/dev/null || :" for unit in part.units]
    return "\n".join(lines)


def distrusted(certificate: str, link: str) -> str:
    """Take a certificate out of the system's store, and with it the second one of a house that is getting a new
    authority. Debian's program leaves the link of one that is gone, and tells programs with stores of their own, such
    as Java, only of one that its configuration takes away."""
    folder, _, name = link.rpartition("/")
    file, stem = certificate.rpartition("/")[2], name.removesuffix(".pem")
    certificates = (certificate, certificate.removesuffix(".crt") + ".other.crt")
    taken_away = " ".join(shlex.quote(f"!{each}") for each in (file, file.removesuffix(".crt") + ".other.crt"))
    links = f"-lname {shlex.quote(name)} -o -lname {shlex.quote(f'{stem}.other.pem')}"
    return "\n".join(
        [
            f"rm -f {shlex.join(certificates)}; c=$(mktemp -p /run)",
            f"{{ cat /etc/ca-certificates.conf; printf '%s\\n' {taken_away}; }} > $c",
            "update-ca-certificates --certsconf $c >/dev/null; rm -f $c",
            f"find {folder} -xdev -maxdepth 1 -type l '(' {links} ')' -delete",
        ]
    )


#: Ends the script where something is mounted in the folder "$1", but at entries of these names: since the run looked.
_NOTHING_MOUNTED = (
    'free() { f=$1; shift; [ -d "$f" ] && [ ! -L "$f" ] || return 0; r=$(realpath -- "$f")\n'
    'mounts "$f" | while read -r m; do for k; do case $m in "$r/$k" | "$r/$k/"*) continue 2 ;; esac; done\n'
    'echo "$m is mounted, and was not a moment ago. Next: run this again" >&2; exit 1; done; }'
)


def _if_empty(folder: str) -> str:
    """Remove a folder in which nothing is left and that no package has brought."""
    path = shlex.quote(folder)
    return f"[ ! -d {path} ] || dpkg --search {path} >/dev/null 2>&1 || rmdir -- {path} 2>/dev/null || :"
