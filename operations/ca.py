"""The private CA and the certificates it signs. Private keys never leave the host that uses them."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from facts.ca import CA_FOLDER, CaCertificate, CaKeyAccess, CertificateState
from operations.engine.announced_changes import differs
from operations.engine.answers import ask, will_ask
from operations.engine.run_on_host import RemoteError, run_on
from operations.engine.shell import into_place
from plan.engine.difference import MISSING, Change

#: CA/Browser Forum's limit of 2020-09: what Apple's devices still accept.
SERVER_DAYS = 397
CA_DAYS = 3650


@operation()
def authority(common_name: str, permitted: tuple[str, ...]) -> Generator[StringCommand, None, None]:
    """Own the CA in CA_FOLDER of this host: made once, never replaced, its key root's alone.

    `permitted` are name constraints in openssl's form (`DNS:house.internal`, `IP:ADDRESS/MASK`), critical: a device
    that trusts this CA trusts it for nothing else.
    """
    if not ask(host, CaCertificate):
        differs(Change(f"the authority in {CA_FOLDER}", "made", MISSING))
        yield StringCommand(authority_script(common_name, permitted))
        return
    if ask(host, CaKeyAccess) != "root root 600":
        differs(Change(f"{CA_FOLDER}/ca.key", "given to root alone", "others may have access to it"))
        yield StringCommand(f"chown root:root {CA_FOLDER}/ca.key; chmod 0600 {CA_FOLDER}/ca.key")
        return
    host.noop("the authority exists")


def authority_script(common_name: str, permitted: tuple[str, ...]) -> str:
    """Make key and certificate of an authority that is good for `permitted` and nothing else."""
    constraints = ",".join(f"permitted;{name}" for name in permitted)
    return "\n".join(
        [
            "set -e; umask 077",
            f"install -d -m 0700 {CA_FOLDER}; cd {CA_FOLDER}",
            "openssl ecparam -name prime256v1 -genkey -noout -out ca.key",
            f"openssl req -x509 -new -key ca.key -sha256 -days {CA_DAYS} -subj {shlex.quote(f'/CN={common_name}')} "
            "-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign "
            f"-addext {shlex.quote(f'nameConstraints=critical,{constraints}')} -out ca.crt.new",
            # The certificate last: its presence says that the authority is complete.
            f"sync -- ca.key; {into_place('ca.crt.new', 'ca.crt')}",
        ]
    )


def server_certificate(
    name: str, folder: str, owner: str, names: tuple[str, ...], coordinator: str, authority_file: str
) -> None:
    """Have a server's certificate in `folder`: the operation `certified`, whose question is said in advance."""
    question = {
        "certificate": f"{folder}/cert.pem",
        "key": f"{folder}/key.pem",
        "owner": owner,
        "names": ",".join(f"DNS:{each}" for each in names),
        "authority": authority_file,
    }
    will_ask(host, CertificateState, **question)
    certified(name=name, folder=folder, coordinator=coordinator, question=question)


@operation()
def certified(folder: str, coordinator: str, question: dict[str, str]) -> Generator[FunctionCommand, None, None]:
    """Own `folder`/cert.pem (with chain) and key.pem, readable by their owner alone, for some DNS names: those of
    `question`, which is one of CertificateState. `folder` is root's, so that nobody else puts anything there.

    The key and the request are made on this host, the request is signed on `coordinator`. Signed anew when names or CA
    changed or few days remain, and with a new key when others could read the old one.
    """
    seen = ask(host, CertificateState, **question)
    if seen.good:
        host.noop(f"{folder}/cert.pem is good")
        return
    differs(Change(f"certificate {folder}/cert.pem", "made", seen.why_not))
    yield FunctionCommand(_issue, (folder, question["owner"], question["names"], inventory.get_host(coordinator)), {})


def _issue(state: State, host: Host, folder: str, owner: str, names: str, coordinator: Host) -> bool:
    try:
        request = run_on(host, request_script(folder, owner, names))
        signed = run_on(coordinator, sign_script(names), stdin=request)
        run_on(host, install_script(folder, owner), stdin=signed)
    except RemoteError as error:
        logger.error(f"{host.print_prefix}no certificate for {names}: {error}")
        return False
    return True


def request_script(folder: str, owner: str, names: str) -> str:
    """Make the key where there is none that only `owner` reads; print a signing request for `names`."""
    directory, first = shlex.quote(folder), names.split(",")[0].removeprefix("DNS:")
    # For people to read: programs go by the alternative names, which have no such limit (RFC 5280, ub-common-name).
    common = first if len(first) <= 64 else first.partition(".")[0]
    return "\n".join(
        [
            "set -e; umask 077",
            # Root's: in a folder of its own the account could put links where root writes.
            f"install -d -o root -g {owner} -m 0750 {directory}; cd {directory}",
            f"if ! test -s key.pem || [ \"$(stat -c '%U %a' key.pem)\" != '{owner} 400' ]; then",
            "rm -f key.new; openssl ecparam -name prime256v1 -genkey -noout -out key.new",
            f"chown {owner}:{owner} key.new; chmod 0400 key.new; {into_place('key.new', 'key.pem')}; fi",
            f"openssl req -new -key key.pem -subj {shlex.quote(f'/CN={common}')} "
            f"-addext {shlex.quote(f'subjectAltName={names}')}",
        ]
    )


def sign_script(names: str) -> str:
    """Sign the request on standard input for `names` and nothing else it may ask for; print certificate and CA."""
    extensions = (
        f"subjectAltName={names}\\nbasicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature\\n"
        "extendedKeyUsage=serverAuth\\nsubjectKeyIdentifier=hash\\nauthorityKeyIdentifier=keyid\\n"
    )
    return "\n".join(
        [
            f"set -e; umask 077; cd {CA_FOLDER}",
            "work=$(mktemp -d); trap 'rm -rf \"$work\"' EXIT",
            "cat > $work/csr",
            f"printf {shlex.quote(extensions)} > $work/ext",
            "openssl req -in $work/csr -noout -verify >/dev/null 2>&1",
            f"openssl x509 -req -in $work/csr -CA ca.crt -CAkey ca.key -days {SERVER_DAYS} -sha256 "
            "-set_serial 0x$(openssl rand -hex 16) -extfile $work/ext -out $work/crt 2>$work/said "
            "|| { cat $work/said >&2; exit 1; }",
            "cat $work/crt ca.crt",
        ]
    )


def install_script(folder: str, owner: str) -> str:
    """Put the certificate on standard input into place in one rename."""
    directory = shlex.quote(folder)
    return "\n".join(
        [
            f"set -e; umask 077; cd {directory}",
            "rm -f cert.new; cat > cert.new; openssl x509 -in cert.new -noout",
            f"chown {owner}:{owner} cert.new; chmod 0440 cert.new; {into_place('cert.new', 'cert.pem')}",
        ]
    )
