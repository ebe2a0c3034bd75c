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

#: Apple's limit of 2019, for certificates of authorities that a person has added to a device. The shorter limit of 398
#: days is for authorities that Apple delivers with the device (support.apple.com/102028).
SERVER_DAYS = 825
CA_DAYS = 3650


@operation()
def authority(common_name: str, permitted: tuple[str, ...]) -> Generator[StringCommand, None, None]:
    """Own the CA in CA_FOLDER of this host. It is made once and never replaced. Only root can read its key.

    `permitted` are critical name constraints in openssl's form (`DNS:house.internal`, `IP:ADDRESS/MASK`). A device
    that trusts this CA trusts it for these names and addresses only.
    """
    if not ask(host, CaCertificate):
        differs(Change(f"the authority in {CA_FOLDER}", "made", MISSING))
        yield StringCommand(authority_script(common_name, permitted))
        return
    if ask(host, CaKeyAccess) != "root root 600":
        differs(Change(f"{CA_FOLDER}/ca.key", "given to root only", "other accounts may have access to it"))
        yield StringCommand(f"chown root:root {CA_FOLDER}/ca.key; chmod 0600 {CA_FOLDER}/ca.key")
        return
    host.noop("the authority exists")


def authority_script(common_name: str, permitted: tuple[str, ...]) -> str:
    """A script that makes key and certificate of a CA that can sign for the names in `permitted` only."""
    constraints = ",".join(f"permitted;{name}" for name in permitted)
    return "\n".join(
        [
            "set -e; umask 077",
            f"install -d -m 0700 {CA_FOLDER}; cd {CA_FOLDER}",
            "openssl ecparam -name prime256v1 -genkey -noout -out ca.key",
            f"openssl req -x509 -new -key ca.key -sha256 -days {CA_DAYS} -subj {shlex.quote(f'/CN={common_name}')} "
            "-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign "
            f"-addext {shlex.quote(f'nameConstraints=critical,{constraints}')} -out ca.crt.new",
            # The certificate is put into place last: if it is there, the CA is complete.
            f"sync -- ca.key; {into_place('ca.crt.new', 'ca.crt')}",
        ]
    )


def server_certificate(
    name: str, folder: str, owner: str, names: tuple[str, ...], coordinator: str, authority_file: str
) -> None:
    """Have a server's certificate in `folder`. Registers the question of the operation `certified`, then calls it."""
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
    """Own `folder`/cert.pem (with chain) and key.pem, which only their owner can read.

    `question` has the arguments of the fact CertificateState, among them the DNS names of the certificate. `folder`
    belongs to root, so that no other account can put anything there.
    This host makes the key and the request. `coordinator` signs the request. A new certificate is made when the names
    or the CA have changed, when other accounts could read the key, or when half of the certificate's life is over.
    Each certificate has a new key.
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
    """A script that makes a new key, which only `owner` can read, and prints a signing request for `names`. The key
    that is in use stays in its place."""
    directory, first = shlex.quote(folder), names.split(",")[0].removeprefix("DNS:")
    # Only people read the common name, and it has 64 characters at most (RFC 5280, ub-common-name). Programs use the
    # alternative names, which may be longer.
    common = first if len(first) <= 64 else first.partition(".")[0]
    return "\n".join(
        [
            "set -e; umask 077",
            # The folder belongs to root: in its own folder, the account could put links to files, and root would write
            # to those files.
            f"install -d -o root -g {owner} -m 0750 {directory}; cd {directory}",
            "rm -f key.new; openssl ecparam -name prime256v1 -genkey -noout -out key.new",
            f"chown {owner}:{owner} key.new; chmod 0400 key.new",
            f"openssl req -new -key key.new -subj {shlex.quote(f'/CN={common}')} "
            f"-addext {shlex.quote(f'subjectAltName={names}')}",
        ]
    )


def sign_script(names: str) -> str:
    """A script that signs the request on standard input, for `names` only, whatever else the request contains. It
    prints the certificate and the CA's certificate.

    The certificate ends before the CA's certificate: after that, no device would accept it.
    """
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
            'ends=$(openssl x509 -in ca.crt -noout -enddate); ends=$(date -d "${ends#notAfter=}" +%s)',
            # Less a minute: openssl counts the days from the moment at which it signs.
            "days=$(( (ends - 60 - $(date +%s)) / 86400 ))",
            f"if [ $days -gt {SERVER_DAYS} ]; then days={SERVER_DAYS}; fi",
            'if [ $days -lt 1 ]; then echo "the authority of the house has no day left" >&2; exit 1; fi',
            "openssl x509 -req -in $work/csr -CA ca.crt -CAkey ca.key -days $days -sha256 "
            "-set_serial 0x$(openssl rand -hex 16) -extfile $work/ext -out $work/crt 2>$work/said "
            "|| { cat $work/said >&2; exit 1; }",
            "cat $work/crt ca.crt",
        ]
    )


def install_script(folder: str, owner: str) -> str:
    """A script that puts the certificate on standard input into its place, together with the key it was made for."""
    directory = shlex.quote(folder)
    return "\n".join(
        [
            f"set -e; umask 077; cd {directory}",
            "rm -f cert.new; cat > cert.new; certified=$(openssl x509 -in cert.new -noout -pubkey)",
            'if [ "$certified" != "$(openssl pkey -in key.new -pubout)" ]; then',
            'echo "the certificate is for another key: another run is at work here" >&2; exit 1; fi',
            f"chown {owner}:{owner} cert.new; chmod 0440 cert.new; sync -- key.new cert.new",
            # A run that is cut off between the two leaves a key that does not match, which the next one sees.
            "mv -fT key.new key.pem; mv -fT cert.new cert.pem",
        ]
    )
