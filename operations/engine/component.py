"""Make a host have what a component wants. Most of the deployment consists of this one operation."""

from __future__ import annotations

import base64
import io
import shlex
import tarfile
from collections.abc import Callable, Generator

from pyinfra import host, state
from pyinfra.api import FunctionCommand, OperationError, StringCommand, operation

from facts.engine.component_state import STAMPS, inputs_digest, left_over, looking, unit_call
from operations.engine.announced_changes import differs, not_yet
from operations.engine.answers import NotYet, Want, have_of, is_wanted
from operations.engine.shell import below, into_place
from operations.engine.upload import upload
from plan.base.sandboxes import SUBORDINATE_COUNT, SUBORDINATE_FIRST
from plan.engine.claims import CLAIMED, PACKAGE
from plan.engine.command_environment import OWN_EXCEPTIONS
from plan.engine.difference import Difference, difference
from plan.engine.upload_folder import INCOMING
from plan.engine.want import Account, Block, Directory, File, Program, Secret, Unit

Instead = Callable[[Difference], Generator[StringCommand | FunctionCommand, None, None]]


def component(name: str, want: Want, instead: Instead | None = None) -> None:
    """Make one host have what `want()` says. Registers the want of the operation `brought`, then calls the
    operation."""
    is_wanted(host, want)
    brought(name=name, want=want, instead=instead)


@operation()
def brought(want: Want, instead: Instead | None = None) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Own the named packages (that they are installed), accounts, program folders, links, files, the owner and mode of
    directories, and units.

    `want` is called when the operation runs, so it may use facts about what earlier operations did. While planning it
    may raise `NotYet`. A second run changes nothing. `instead` makes the changes (operations/upgrade/way.py).
    Raises OperationError when `want` still raises `NotYet` while executing.
    """
    todo = yield from compared(want)
    if todo:
        yield from (instead or commands)(todo)


def compared(want: Want) -> Generator[StringCommand, None, Difference | None]:
    """What has to be done on this host, for operations that build on this one. If nothing has to be done, the log says
    so and the result is None."""
    try:
        wanted = want()
    except NotYet as reason:
        if state.is_executing:
            raise OperationError(f"{host.name}: {reason}") from reason
        yield not_yet(str(reason))
        return None
    todo = difference(wanted, have_of(host, wanted))
    if not todo:
        host.noop("nothing differs")
        return None
    differs(*todo.changes)
    return todo


def commands(todo: Difference) -> Generator[StringCommand | FunctionCommand, None, None]:
    """The commands that make all the changes."""
    if todo.packages:
        yield StringCommand(install_packages(todo.packages))
    for account in todo.accounts:
        yield StringCommand(make_account(account))
    for program in todo.programs:
        yield StringCommand(f"install -d -m 0755 /opt/private-ai && install -d -m 0700 {INCOMING}")
        yield from (upload(part.local, part.sha256, part.sha256) for part in program.parts if not part.link)
        yield StringCommand(install_program(program))
    for link, target in todo.links:
        yield StringCommand(f"ln -sfnT {shlex.quote(target)} {shlex.quote(link)}")
    if todo.directories or todo.files:
        yield StringCommand(install_files(todo.directories, todo.files), _stdin=pack(todo.files))
    for secret in todo.secrets:
        yield StringCommand(make_secret(secret))
    for block in todo.blocks:
        yield StringCommand(install_block(block), _stdin=block.text)
    for effect in todo.effects:
        yield StringCommand(effect.command)
    for unit in todo.units:
        yield StringCommand(stop_unit(unit) if unit.stopped else start_unit(unit))


def install_packages(names: tuple[str, ...]) -> str:
    """A script that notes Debian packages as installed by the house, and installs them without the packages that they
    recommend. It downloads the package index only when the installation fails with the old one."""
    quoted = " ".join(map(shlex.quote, names))
    # If somebody wrote a program's configuration file before the program was installed, the file stays. Without
    # --force-confold dpkg would ask, and nobody could answer.
    apt = (
        f"{OWN_EXCEPTIONS} DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "
        "-o DPkg::Options::=--force-confold"
    )
    install = f"{apt} install --yes --no-install-recommends {quoted}"
    # Before they are there: of what a run that is cut off has installed, the next one would know nothing.
    lines = " ".join(shlex.quote(f"{PACKAGE}{name}") for name in names)
    noted = f"(umask 022; {{ cat {CLAIMED} 2>/dev/null; printf '%s\\n' {lines}; }} | sort -u > {CLAIMED}.new)"
    return "\n".join(
        [
            f"mkdir -p {CLAIMED.rpartition('/')[0]}; {noted}; {into_place(f'{CLAIMED}.new', CLAIMED)}",
            f"{install} >/dev/null 2>&1 && exit",
            # If a host was switched off during an installation, packages are half installed.
            "dpkg --force-confold --configure -a >/dev/null || exit 1",
            # A new host has no index, and an old index names files that the mirror no longer has. An `update` of an
            # interrupted run may still hold the lock of the index. apt does not wait for this lock by itself.
            f"for i in $(seq 60); do said=$({apt} update 2>&1) && break",
            'case $said in *"Could not get lock"*) sleep 2 ;; *) break ;; esac; done',
            # If dpkg cannot set up a package, apt prints dpkg's error on standard output, so both outputs are shown.
            f'last=$({install} 2>&1) || {{ printf "%s\\n" "$said" "$last" | sed "/^$/d" | tail -n 20 >&2; exit 1; }}',
        ]
    )


def make_account(account: Account) -> str:
    """A script that creates a system account. An account that runs containers also gets subordinate ids, and a user
    manager that runs without a login."""
    name, home = shlex.quote(account.name), shlex.quote(account.home)
    lines = [
        f"getent passwd {name} >/dev/null || useradd --system --user-group "
        f"--home-dir {home} --no-create-home --shell /usr/sbin/nologin {name}",
        f"usermod --groups '' {name}",
    ]
    if account.runs_containers:
        lines += [add_subids(name, kind) for kind in ("uid", "gid")]
        bus = f'test -S "/run/user/$(id -u {name})/bus"'
        # Its programs are started through PAM, and a host may allow only some accounts there (pam_access).
        lines.append(
            f"install -d -o {name} -g {name} -m 0750 {home} && loginctl enable-linger {name} && "
            f"{{ for i in $(seq 50); do {bus} && break; sleep 0.2; done; {bus} || {{ "
            f"echo the systemd of the account {name} did not start >&2; "
            f'systemctl status --no-pager --lines=10 "user@$(id -u {name}).service" >&2; false; }}; }}'
        )
    return " && ".join(lines)


def add_subids(name: str, kind: str) -> str:
    """A command that gives an account subordinate ids if it has none. They come after all ids that other accounts have.

    useradd gives such ids only to an account that it creates itself. `name` is quoted, `kind` is uid or gid.
    """
    first = (
        "cat /etc/subuid /etc/subgid | "
        f"awk -F: -v n={SUBORDINATE_FIRST} '$2 + $3 > n {{ n = $2 + $3 }} END {{ print n }}'"
    )
    return (
        f"{{ touch /etc/subuid /etc/subgid && grep -qs ^{name}: /etc/sub{kind} || {{ n=$({first}) && "
        f'usermod --add-sub{kind}s "$n-$((n + {SUBORDINATE_COUNT - 1}))" {name}; }}; }}'
    )


def install_program(program: Program) -> str:
    """A script that checks the uploaded files against their digests, then moves the whole folder into place at once."""
    incoming = f"{INCOMING}/{program.name}"
    lines = ["set -e", f"rm -rf {shlex.quote(incoming)}", f"mkdir {shlex.quote(incoming)}"]
    for part in program.parts:
        if part.link:
            link = shlex.quote(f"{incoming}/{part.path}")
            lines.append(f"mkdir -p $(dirname {link}); ln -s {shlex.quote(part.link)} {link}")
            continue
        uploaded, target = f"{INCOMING}/{part.sha256}", shlex.quote(f"{incoming}/{part.path}")
        lines.append(f"echo {part.sha256} {uploaded} | sha256sum --check --quiet")
        lines.append(f"install -D -o root -g root -m {part.mode} {uploaded} {target}")
        lines.append(f"rm {uploaded}")
    # The folder's name says what is in the folder. So all files must be on the disk before the folder gets that name.
    lines.append(f"find {shlex.quote(incoming)} -type f -exec sync -- {{}} +")
    lines.append(f"chmod 0755 {shlex.quote(incoming)}")
    lines.append(f"mv -T {shlex.quote(incoming)} {shlex.quote(program.prefix)}")
    return "\n".join(lines)


def pack(files: tuple[File, ...]) -> str:
    """A tar archive of the files, as base64 lines. In it, each file has the name `PATH.new`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(f"{file.path.lstrip('/')}.new")
            content = file.content.encode()
            entry.size, entry.mode = len(content), int(file.mode, 8)
            entry.uname, entry.gname = file.owner, file.group
            tar.addfile(entry, io.BytesIO(content))
    return base64.encodebytes(data.getvalue()).decode()


def install_files(directories: tuple[Directory, ...], files: tuple[File, ...]) -> str:
    """A script that makes directories, unpacks the new files from standard input beside the old ones, checks each, and
    renames each over its old one."""
    news = [shlex.quote(f"{file.path}.new") for file in files]
    clean = f"trap {shlex.quote(' '.join(['rm -f', *news]))} EXIT\n" if news else ""
    lines = ["set -e", f"{clean}umask 022"]
    for directory in directories:
        path = shlex.quote(directory.path)
        above, _, name = directory.path.rpartition("/")
        # The folder above may belong to an account, which could put a link there: `below` follows no link.
        made = below(above or "/", (name,), directory.owner, directory.group, directory.mode)
        lines.append(f"mkdir -p {shlex.quote(above or '/')}; ({made})")
        if directory.empty:
            lines.append(f"{left_over(path)} -delete")
    lines.append("base64 -d | tar -x -p -m --no-overwrite-dir -C / -f -")
    for file, new in zip(files, news, strict=True):
        if file.check:
            lines.append(file.check.replace("{}", new))
    lines.extend(into_place(new, shlex.quote(file.path)) for file, new in zip(files, news, strict=True))
    return "\n".join(lines)


def make_secret(secret: Secret, anew: bool = False) -> str:
    """A command that makes a random secret if there is none of the right size, or in any case with `anew`. If the
    secret is kept, the command only sets its owner and mode."""
    path = shlex.quote(secret.path)
    keep = "" if anew else f'[ "$(stat -c %s {path} 2>/dev/null)" = {secret.SIZE} ] || '
    return (
        f"umask 077; {keep}{{ head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' > {path}.new "
        f"&& {into_place(f'{path}.new', path)}; }} && "
        f"chown {secret.owner}:{secret.group} {path} && chmod {secret.mode} {path}"
    )


#: An awk program that prints a file without the block between the lines `begin` and `end`, then the new block. A mark
#: may stand at the end of another line, or before a carriage return. If the end mark is missing, only lines that look
#: like lines of the block are left out: those whose last word is the last word of a line of the new block.
_WITHOUT_BLOCK = """
function leave(i) { for (i = 1; i <= count; i++) if (!(last[i] in ours)) print kept[i]; count = inside = 0 }
NR == FNR { wanted = wanted $0 "\\n"; if ($0 !~ /^#/) ours[$NF] = 1; next }
{ line = $0; sub(/\\r+$/, "", line); before = length(line) - length(begin) }
before >= 0 && substr(line, before + 1) == begin {
    leave(); inside = 1; if (before) print substr(line, 1, before); next
}
line == end { count = inside = 0; next }
inside { kept[++count] = $0; n = split(line, word); last[count] = word[n]; next }
{ print }
END { leave(); if (!gone) printf "%s", wanted }
"""


def install_block(block: Block, gone: bool = False) -> str:
    """A script that removes the block from its file and writes standard input to the end of the file, with one
    rename. With `gone` it only removes the block; standard input has the block's lines all the same."""
    path = shlex.quote(block.path)
    marks = f"-v begin={shlex.quote(block.begin)} -v end={shlex.quote(block.end)} -v gone={int(gone)}"
    program = shlex.quote(_WITHOUT_BLOCK)
    return (
        f"set -e; cp -p {path} {path}.new; awk {marks} {program} - {path} > {path}.new; "
        f"{into_place(f'{path}.new', path)}"
    )


def start_unit(unit: Unit, as_account: Callable[[str, str], str] = looking) -> str:
    """A script that starts or restarts a unit, waits until it is ready, then stores the digest of its inputs.

    `as_account`: as for `inputs_digest`.
    """
    name, stamp = shlex.quote(unit.name), shlex.quote(f"{STAMPS}/{unit.name}")
    lines = ["set -e", unit_call(unit.user, "daemon-reload")]
    if unit.enable:
        lines.append(unit_call(unit.user, f"enable --quiet {name}"))
    said = unit_call(unit.user, f"status --no-pager --lines=30 {name}")
    verb = "reload-or-restart" if unit.reload else "restart"
    # An account's service writes to the account's journal. `status` does not show that journal when root runs it.
    log = f"journalctl --no-pager --lines=20 _SYSTEMD_USER_UNIT={name} || true; " if unit.user else ""
    lines.append(f"{unit_call(unit.user, f'{verb} {name}')} || {{ {said} >&2; {log} false; }}")
    if unit.ready:
        given_up = ""
        if unit.final:
            status, step = unit.final
            shown = unit_call(unit.user, f"show --property=ActiveState,ExecMainStatus {name}")
            # systemd prints the two in an order of its own.
            lines.append(
                f'ended() {{ case "$({shown})" in *=failed*={status} | *={status}*=failed) ;; *) false ;; esac; }}'
            )
            given_up = (
                "if ended; then "
                f"echo {shlex.quote(f'{unit.name} ended with status {status} and is not started again: {step}')} >&2; "
                f"{said} >&2; {log} exit 1; fi; "
            )
        lines.append(
            f"end=$(( $(date +%s) + {unit.ready_seconds} )); "
            f"until {{ {unit.ready}; }} >/dev/null 2>&1; do {given_up}"
            f'if [ "$(date +%s)" -ge "$end" ]; then '
            f"echo {shlex.quote(f'{unit.name} was not ready within {unit.ready_seconds} s')} >&2; "
            f"{said} >&2; {log} exit 1; fi; sleep 0.3; done"
        )
    lines.append(unit_call(unit.user, f"is-active --quiet {name}"))
    if unit.then:
        lines.append(f"{unit.then} || :")
    lines.append(f"install -d -m 0755 {STAMPS}; {{ {inputs_digest(unit, as_account)}; }} > {stamp}")
    return "\n".join(lines)


def stop_unit(unit: Unit) -> str:
    """A script that stops and disables a unit and removes its stamp."""
    name = shlex.quote(unit.name)
    return f"{unit_call(unit.user, f'disable --now --quiet {name}')}; rm -f {shlex.quote(f'{STAMPS}/{unit.name}')}"
