"""The private CA of the house, on the coordinator. Its key never leaves it."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from datetime import UTC, datetime

from pyinfra import host
from pyinfra.api import StringCommand, operation

from facts.ca import CA_FOLDER, CaCertificate, CaKeyAccess
from operations.engine.announced_changes import differs
from operations.engine.answers import ask
from operations.engine.shell import into_place
from plan.ca import half_over
from plan.engine.difference import MISSING, Change

CA_DAYS = 3650


@operation()
def authority(common_name: str, permitted: tuple[str, ...]) -> Generator[StringCommand, None, None]:
    """Own the CA in CA_FOLDER of this host. Its key is made once and never replaced, and only root can read it. Its
    certificate is made anew for the same key and name when half of its life is over: devices that have the old
    certificate accept what the key signs until that ends.

    `permitted` are critical name constraints in openssl's form (`DNS:house.internal`, `IP:ADDRESS/MASK`). A device
    that trusts this CA trusts it for these names and addresses only.
    """
    there = ask(host, CaCertificate)
    if not there:
        differs(Change(f"the authority in {CA_FOLDER}", "made", MISSING))
        yield StringCommand(authority_script(common_name, permitted))
        return
    if ask(host, CaKeyAccess) != "root root 600":
        differs(Change(f"{CA_FOLDER}/ca.key", "given to root only", "other accounts may have access to it"))
        yield StringCommand(f"chown root:root {CA_FOLDER}/ca.key; chmod 0600 {CA_FOLDER}/ca.key")
        return
    if half_over(there, datetime.now(UTC)):
        differs(Change(f"the certificate {CA_FOLDER}/ca.crt", "made anew for the same key", "half of its life is over"))
        yield StringCommand(authority_script(common_name, permitted, renewed=True))
        return
    host.noop("the authority exists")


def authority_script(common_name: str, permitted: tuple[str, ...], renewed: bool = False) -> str:
    """A script that makes key and certificate of a CA that can sign for the names in `permitted` only. `renewed`: only
    the certificate."""
    constraints = ",".join(f"permitted;{name}" for name in permitted)
    return "\n".join(
        [
            "set -e; umask 077",
            f"install -d -m 0700 {CA_FOLDER}; cd {CA_FOLDER}",
            *(() if renewed else ("openssl ecparam -name prime256v1 -genkey -noout -out ca.key",)),
            f"openssl req -x509 -new -key ca.key -sha256 -days {CA_DAYS} -subj {shlex.quote(f'/CN={common_name}')} "
            "-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign "
            f"-addext {shlex.quote(f'nameConstraints=critical,{constraints}')} -out ca.crt.new",
            # The certificate is put into place last: if it is there, the CA is complete.
            f"sync -- ca.key; {into_place('ca.crt.new', 'ca.crt')}",
        ]
    )
