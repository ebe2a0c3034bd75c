"""Reads the house's certificate authority, and a server's certificate, on a host."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from plan.engine.errors import AGAIN, shown

#: The authority's folder on the coordinator. Only root may enter it.
CA_FOLDER = "/var/lib/private-ai/ca"
#: A run renews a server's certificate that is valid for fewer days: for less than half of its life (operations/ca.py).
RENEW_DAYS = 412
#: A certificate that lasts as long as its authority allows ends at most this many seconds before it: a certificate is
#: made for whole days.
CAPPED = 25 * 3600


class CaCertificate(FactBase[str]):
    """PEM text of the house's CA certificate on the coordinator, "" when there is none. Cost: one remote command."""

    def command(self) -> str:
        return f"cat {CA_FOLDER}/ca.crt 2>/dev/null; echo end"

    def process(self, output: list[str]) -> str:
        pem = "\n".join(output[:-1])
        return f"{pem}\n" if pem else ""


class CaKeyAccess(FactBase[str]):
    """Owner, group and mode of the CA's key on the coordinator, as in "root root 600". Cost: one remote command."""

    def command(self) -> str:
        return f"stat -c '%U %G %a' {CA_FOLDER}/ca.key 2>/dev/null || echo none"


@dataclass(frozen=True)
class ServerCertificate:
    """`good`: the certificate exists, its key matches and only its owner can read it, the given authority has signed
    it, it has the right names, and it is valid for RENEW_DAYS more, or for as long as the authority. `why_not`: the
    reason, in words."""

    good: bool
    why_not: str


class CertificateState(FactBase[ServerCertificate]):
    """Whether a server's certificate needs to be made or renewed. Cost: one remote command."""

    def command(self, certificate: str, key: str, owner: str, names: str, authority: str) -> str:
        crt, key, ca = shlex.quote(certificate), shlex.quote(key), shlex.quote(authority)
        # One call of openssl answers all questions. Each further call would take longer than the answers.
        seen = f"openssl x509 -in {crt} -noout -pubkey -ext subjectAltName -checkend {RENEW_DAYS * 86400}"
        ends = '$(date -d "$(openssl x509 -in {} -noout -enddate | cut -d= -f2)" +%s)'
        longer = f"[ $(({ends.format(ca)} - {ends.format(crt)})) -gt {CAPPED} ]"
        named = shlex.quote(f"\n    {names.replace(',', ', ')}\n")
        return "\n".join(
            [
                f"if ! test -s {crt} || ! test -s {key}; then echo missing; else",
                f"seen=$({seen}); lasts=$?; public=$(openssl pkey -in {key} -pubout)",
                'case $seen in "$public"*) ;; *) public= ;; esac',
                'if [ -z "$public" ]; then echo the key does not match',
                f"elif [ \"$(stat -c '%U %a' {key})\" != '{owner} 400' ]; then echo the key is not private",
                f"elif ! openssl verify -CAfile {ca} {crt} >/dev/null 2>&1; then echo not signed by the CA",
                f"elif [ $lasts != 0 ] && {longer}; then echo fewer than {RENEW_DAYS} days left",
                f"else case $seen in *{named}*) echo good ;; *) echo other names ;; esac; fi",
                "fi",
            ]
        )

    def process(self, output: list[str]) -> ServerCertificate:
        if len(output) != 1:
            raise FactProcessError(f"the certificate's state is not understood: {shown(output)}. {AGAIN}")
        return ServerCertificate(output[0] == "good", output[0])
