"""Reads the house's certificate authority, and a server's certificate, on a host."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.ca import OVERLAP_DAYS
from plan.engine.errors import AGAIN, shown

#: The authority's folder on the coordinator. Only root may enter it.
CA_FOLDER = "/var/lib/private-ai/ca"
#: A run renews a server's certificate that is valid for fewer days: for less than half of its life (operations/ca.py).
RENEW_DAYS = 412
#: A certificate that lasts as long as its authority allows ends at most this many seconds before it: a certificate is
#: made for whole days.
CAPPED = 25 * 3600
#: A successor lasts so many days longer than the certificate that it follows, unless the authority ends before.
#: One day less than it was made for: days are counted whole.
LONGER_DAYS = 825 - OVERLAP_DAYS - 1
#: The folder of a certificate's successor, below the folder of the certificate. Only root may enter it.
NEXT = "next"
#: How the reasons begin that are only about the successor.
SUCCESSOR = ("its successor", "it has no successor")


class CaCertificate(FactBase[str]):
    """PEM text of the house's CA certificate on the coordinator, "" when there is none. Cost: one remote command."""

    def command(self) -> str:
        return f"cat {CA_FOLDER}/ca.crt 2>/dev/null; echo end"

    def process(self, output: list[str]) -> str:
        pem = "\n".join(output[:-1])
        return f"{pem}\n" if pem else ""


@dataclass(frozen=True)
class OtherAuthority:
    """The second authority of a house that is getting a new one. `pem` is its certificate. `stage`: "" there is none;
    "new" hosts trust it, and the first one signs; "switching" a run was cut off while the new one took its place; "old"
    the new one signs, and this one is still trusted."""

    stage: str = ""
    pem: str = ""


class CaOther(FactBase[OtherAuthority]):
    """The second authority on the coordinator. Cost: one remote command."""

    def command(self) -> str:
        names = f"for name in new old; do if test -s {CA_FOLDER}/$name.crt; then echo $name; fi; done"
        return f"{names}; cat {CA_FOLDER}/new.crt 2>/dev/null || cat {CA_FOLDER}/old.crt 2>/dev/null; echo end"

    def process(self, output: list[str]) -> OtherAuthority:
        names = [line for line in output[:2] if line in ("new", "old")]
        stage = "switching" if len(names) == 2 else "".join(names)
        return OtherAuthority(stage, "".join(f"{line}\n" for line in output[len(names) : -1]))


class CaKeyAccess(FactBase[str]):
    """Owner, group and mode of the CA's key on the coordinator, as in "root root 600". Cost: one remote command."""

    def command(self) -> str:
        return f"stat -c '%U %G %a' {CA_FOLDER}/ca.key 2>/dev/null || echo none"


def next_of(path: str) -> str:
    """Where the successor of a file in the folder of a certificate is."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{NEXT}/{name}"


@dataclass(frozen=True)
class ServerCertificate:
    """`good`: the certificate exists, its key matches and only its owner can read it, the given authority has signed
    it, it has the right names, and it is valid for long enough, or for as long as the authority. Where a successor is
    asked for, it is good as well. `why_not`: the reason, in words."""

    good: bool
    why_not: str

    @property
    def successor_only(self) -> bool:
        """Whether the certificate is good, and only its successor is not."""
        return self.why_not.startswith(SUCCESSOR)


class CertificateState(FactBase[ServerCertificate]):
    """Whether a server's certificate needs to be made or renewed, because fewer than `days` are left or for another
    reason. `successor`: whether it needs a successor, which is signed in advance. Cost: one remote command."""

    def command(
        self,
        certificate: str,
        key: str,
        owner: str,
        names: str,
        authority: str,
        days: int = RENEW_DAYS,
        successor: bool = False,
    ) -> str:
        crt, ca = shlex.quote(certificate), shlex.quote(authority)
        named = shlex.quote(f"\n    {names.replace(',', ', ')}\n")
        ends = '$(date -d "$(openssl x509 -in {} -noout -enddate | cut -d= -f2)" +%s)'
        longer = f"[ $(({ends.format(ca)} - {ends.format(crt)})) -gt {CAPPED} ]"
        lines = [
            # "the key", "its successor's key": its file and the certificate's; then what openssl says of the latter.
            'fits() { public=$(openssl pkey -in "$2" -pubout); case $seen in "$public"*) ;; *) public= ;; esac',
            'if [ -z "$public" ]; then echo "$1 does not match"; exit; fi',
            f'if [ "$(stat -c \'%U %a\' "$2")" != \'{owner} 400\' ]; then echo "$1 is not private"; exit; fi',
            f"case $seen in *{named}*) ;; *) names=other ;; esac; }}",
            f"key={shlex.quote(key)}; test -s {crt} && test -s $key || {{ echo missing; exit; }}",
            # One call of openssl answers all questions. Each further call would take longer than the answers.
            f"seen=$(openssl x509 -in {crt} -noout -pubkey -ext subjectAltName -checkend {days * 86400}); lasts=$?",
            "names=; fits 'the key' $key",
            f"if ! openssl verify -CAfile {ca} {crt} >/dev/null 2>&1; then",
            f"if openssl x509 -in {crt} -noout -checkend 0 >/dev/null; then echo not signed by the CA; exit; fi",
            "echo it has expired; exit; fi",
            f"if [ $lasts != 0 ] && {longer}; then echo fewer than {days} days left; exit; fi",
            'if [ -n "$names" ]; then echo other names; exit; fi',
            *(_successor(certificate, crt, ca) if successor else ()),
            "echo good",
        ]
        return "\n".join(["(", *lines, ")"])

    def process(self, output: list[str]) -> ServerCertificate:
        if len(output) != 1:
            raise FactProcessError(f"the certificate's state is not understood: {shown(output)}. {AGAIN}")
        return ServerCertificate(output[0] == "good", output[0])


def _successor(certificate: str, crt: str, ca: str) -> list[str]:
    """The questions about the successor of a certificate that is good itself. If the authority ends soon after the
    certificate, there can be none."""
    folder = shlex.quote(f"{certificate.rpartition('/')[0]}/{NEXT}")
    dates = "openssl x509 -in $next/cert.pem -noout -pubkey -ext subjectAltName -dates"
    return [
        f"next={folder}; seen=$({dates} 2>/dev/null)",
        # When the authority, the certificate and the successor end; the successor's beginning comes before its end.
        f"set -- $({{ openssl x509 -in {ca} -noout -enddate; openssl x509 -in {crt} -noout -enddate; "
        'echo "$seen"; } | '
        "sed -n 's/^not[A-Z][a-z]*=//p' | date -f - +%s)",
        f"if [ $(($1 - $2)) -gt {OVERLAP_DAYS * 86400} ]; then",
        'test -n "$4" && test -s $next/key.pem || { echo it has no successor; exit; }',
        'fits "its successor\'s key" $next/key.pem',
        f"if ! openssl verify -attime $(($3 + 60)) -CAfile {ca} $next/cert.pem >/dev/null 2>&1; then",
        "echo its successor is not signed by the CA; exit; fi",
        'if [ -n "$names" ]; then echo its successor has other names; exit; fi',
        f"if [ $3 -gt $2 ] || {{ [ $(($4 - $2)) -lt {LONGER_DAYS * 86400} ] && [ $(($1 - $4)) -gt {CAPPED} ]; }}; then",
        "echo its successor is for an earlier certificate; exit; fi",
        "fi",
    ]
