"""The certificates of servers, which the CA signs. Private keys never leave the host that uses them."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping
from typing import Any

from pyinfra import host, inventory, logger
from pyinfra.api import FunctionCommand, Host, State, operation

from facts.ca import CA_FOLDER, NEXT, CertificateState
from operations.engine.announced_changes import differs
from operations.engine.answers import ask, will_ask
from operations.engine.run_on_host import RemoteError, run_on
from plan.ca import OVERLAP_DAYS
from plan.engine.difference import Change

#: Apple's limit of 2019, for certificates of authorities that a person has added to a device. The shorter limit of 398
#: days is for authorities that Apple delivers with the device (support.apple.com/102028).
SERVER_DAYS = 825


def server_certificate(
    name: str, folder: str, owner: str, names: tuple[str, ...], coordinator: str, authority_file: str
) -> None:
    """Have a server's certificate in `folder`. Registers the question of the operation `certified`, then calls it.

    A host that is not the `coordinator` cannot sign, so it gets a successor as well.
    """
    question = question_of(folder, owner, names, authority_file, successor=host.name != coordinator)
    will_ask(host, CertificateState, **question)
    certified(name=name, folder=folder, coordinator=coordinator, question=question)


def question_of(
    folder: str, owner: str, names: tuple[str, ...], authority_file: str, successor: bool
) -> dict[str, Any]:
    """The arguments of the fact CertificateState for the certificate in a folder."""
    return {
        "certificate": f"{folder}/cert.pem",
        "key": f"{folder}/key.pem",
        "owner": owner,
        "names": alternative_names(names),
        "authority": authority_file,
        "successor": successor,
    }


def alternative_names(names: tuple[str, ...]) -> str:
    """DNS names in openssl's form."""
    return ",".join(f"DNS:{each}" for each in names)


@operation()
def certified(folder: str, coordinator: str, question: dict[str, Any]) -> Generator[FunctionCommand, None, None]:
    """Own `folder`/cert.pem (with chain) and key.pem, which only their owner can read. With `successor` in the
    question, own the same in the folder NEXT below it, for root alone: that certificate begins before the first one
    ends.

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
    kept = seen.successor_only
    yield FunctionCommand(issue, (folder, question, inventory.get_host(coordinator), kept), {})


def issue(
    state: State, host: Host, folder: str, question: Mapping[str, Any], coordinator: Host, kept: bool = False
) -> bool:
    """Make a certificate, unless it is `kept`, and its successor, if the question asks for one."""
    owner, names = question["owner"], question["names"]

    def one(folder: str, current: str = "") -> str:
        request = run_on(host, request_script(folder, owner, names))
        signed = run_on(coordinator, sign_script(names, successor=bool(current)), stdin=f"{current}\n{request}")
        if signed:
            run_on(host, install_script(folder, owner), stdin=signed)
        return signed

    try:
        current = run_on(host, f"cat {shlex.quote(question['certificate'])}") if kept else one(folder)
        if question["successor"]:
            one(f"{folder}/{NEXT}", current)
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
    # The service needs no successor.
    access = "-g root -m 0700" if folder.endswith(f"/{NEXT}") else f"-g {owner} -m 0750"
    return "\n".join(
        [
            "set -e; umask 077",
            # The folder belongs to root: in its own folder, the account could put links to files, and root would write
            # to those files.
            f"install -d -o root {access} {directory}; cd {directory}",
            "rm -f key.new; openssl ecparam -name prime256v1 -genkey -noout -out key.new",
            f"chown {owner}:{owner} key.new; chmod 0400 key.new",
            f"openssl req -new -key key.new -subj {shlex.quote(f'/CN={common}')} "
            f"-addext {shlex.quote(f'subjectAltName={names}')}",
        ]
    )


def sign_script(names: str, successor: bool = False) -> str:
    """A script that signs the request on standard input, for `names` only, whatever else the request contains. It
    prints the certificate and the CA's certificate.

    The certificate ends before the CA's certificate: after that, no device would accept it. With `successor`, standard
    input begins with a certificate, and the new one begins OVERLAP_DAYS before the end of that. If the CA ends soon
    after that, the script prints nothing.
    """
    extensions = (
        f"subjectAltName={names}\\nbasicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature\\n"
        "extendedKeyUsage=serverAuth\\nsubjectKeyIdentifier=hash\\nauthorityKeyIdentifier=keyid\\n"
    )
    settings = (
        "[ca]\\ndefault_ca=it\\n[it]\\ndatabase=index\\nnew_certs_dir=.\\nrand_serial=yes\\npolicy=subject\\n"
        "[subject]\\ncommonName=supplied\\n"
    )
    moment = "$(date -u -d @{} +%Y%m%d%H%M%SZ)"
    return "\n".join(
        [
            "set -e; umask 077",
            "work=$(mktemp -d); trap 'rm -rf \"$work\"' EXIT; cd $work",
            f"cat > csr; printf {shlex.quote(extensions)} > ext; printf {shlex.quote(settings)} > settings; : > index",
            "openssl req -in csr -noout -verify >/dev/null 2>&1",
            'ends() { ends=$(openssl x509 -in "$1" -noout -enddate); date -d "${ends#notAfter=}" +%s; }',
            f"ends=$(ends {CA_FOLDER}/ca.crt); begins=$(date +%s)",
            *(
                (
                    f"before=$(ends csr); begins=$((before - {OVERLAP_DAYS * 86400}))",
                    f"if [ $((ends - before)) -le {OVERLAP_DAYS * 86400} ]; then exit; fi",
                )
                if successor
                else ()
            ),
            "days=$(( (ends - 60 - begins) / 86400 ))",
            f"if [ $days -gt {SERVER_DAYS} ]; then days={SERVER_DAYS}; fi",
            'if [ $days -lt 1 ]; then echo "the authority of the house has no day left" >&2; exit 1; fi',
            # Not `openssl x509 -req`: before version 3.4 it signs for times that begin now only.
            f"openssl ca -batch -notext -config settings -cert {CA_FOLDER}/ca.crt -keyfile {CA_FOLDER}/ca.key "
            f"-startdate {moment.format('$begins')} -enddate {moment.format('$((begins + days * 86400))')} "
            "-md sha256 -extfile ext -in csr -out crt 2>said || { cat said >&2; exit 1; }",
            f"cat crt {CA_FOLDER}/ca.crt",
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


def successor_script(folder: str, authority: str) -> str:
    """A script that puts the successor of a certificate into its place, on a host that cannot sign. A second run does
    what is left of an interrupted one. The certificate that is in use stays when its successor is missing, has not
    begun, or has ended."""
    return "\n".join(
        [
            f"set -e; cd {shlex.quote(folder)}",
            f'no() {{ echo "the successor of {folder}/cert.pem $1. Next: run the deployment" >&2; exit 1; }}',
            f"test -s {NEXT}/cert.pem || no 'is missing'",
            f"openssl verify -CAfile {shlex.quote(authority)} {NEXT}/cert.pem >/dev/null 2>&1 || no 'is not valid now'",
            f"public=$(openssl x509 -in {NEXT}/cert.pem -noout -pubkey)",
            'fits() { test -s "$1" && [ "$(openssl pkey -in "$1" -pubout)" = "$public" ]; }',
            f"if fits {NEXT}/key.pem; then mv -fT {NEXT}/key.pem key.pem; fi",
            "fits key.pem || no 'has no key'",
            # It is old, and the time tells whether the service was started with it (tasks/renewal.py).
            f"touch {NEXT}/cert.pem; mv -fT {NEXT}/cert.pem cert.pem; sync -- key.pem cert.pem",
        ]
    )


def signed_here_script(folder: str, owner: str, names: str, authority: str) -> str:
    """A script that makes a new key and certificate on the host that has the CA. The old ones stay when anything goes
    wrong."""
    made = (
        ("request", request_script(folder, owner, names), "/dev/null"),
        ("certificate", sign_script(names), "$work/request"),
    )
    return "\n".join(
        [
            "set -e; umask 077; work=$(mktemp -d); trap 'rm -rf \"$work\"' EXIT",
            *(f"sh -c {shlex.quote(script)} <{given} >$work/{name}" for name, script, given in made),
            f"openssl verify -CAfile {shlex.quote(authority)} $work/certificate >/dev/null",
            f"sh -c {shlex.quote(install_script(folder, owner))} <$work/certificate",
        ]
    )
