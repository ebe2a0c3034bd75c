"""The private CA of the house, on the coordinator. Its key never leaves it."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from datetime import UTC, datetime

from pyinfra import host
from pyinfra.api import StringCommand, operation

from facts.ca import CA_FOLDER, CaCertificate, CaKeyAccess, CaOther
from operations.engine.announced_changes import differs
from operations.engine.answers import ask
from operations.engine.shell import into_place
from plan.ca import half_over, name_of
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
    if ask(host, CaOther).stage == "switching":
        differs(Change("the new authority", "put into the place of the old one", "an earlier run was cut off"))
        yield StringCommand(switch_script())
        return
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
        yield StringCommand(authority_script(name_of(there), permitted, renewed=True))
        return
    host.noop("the authority exists")


@operation()
def authority_followed(
    stage: str, common_name: str, permitted: tuple[str, ...]
) -> Generator[StringCommand, None, None]:
    """Own the next step of a house's way to a new authority, from `stage` (facts/ca.py: OtherAuthority) on: make it;
    have it sign; forget the old one. The deployment that follows brings the hosts along. After an interruption the
    stage is seen from the files."""
    if stage == "":
        differs(Change(f"a second authority in {CA_FOLDER}", "made", "the first one is to be replaced"))
        yield StringCommand(authority_script(common_name, permitted, name="new"))
    elif stage == "old":
        differs(Change(f"the old authority in {CA_FOLDER}", "removed", "the new one has signed all certificates"))
        yield StringCommand(f"rm -f {CA_FOLDER}/old.crt")
    else:
        differs(Change("the new authority", "put into the place of the old one"))
        yield StringCommand(switch_script())


def switch_script() -> str:
    """A script that puts the new CA into the place of the old one, whose key is lost with it. A second run does what is
    left of an interrupted one: old.crt is made first, and new.crt goes last."""
    return "\n".join(
        [
            f"set -e; umask 077; cd {CA_FOLDER}",
            f"if ! test -e old.crt; then cp ca.crt old.crt.new; {into_place('old.crt.new', 'old.crt')}; fi",
            "if test -e new.key; then mv -fT new.key ca.key; fi",
            "mv -fT new.crt ca.crt; sync -- ca.key ca.crt old.crt",
        ]
    )


def authority_script(common_name: str, permitted: tuple[str, ...], renewed: bool = False, name: str = "ca") -> str:
    """A script that makes key and certificate of a CA that can sign for the names in `permitted` only. `renewed`: only
    the certificate. `name`: of its two files."""
    constraints = ",".join(f"permitted;{name}" for name in permitted)
    return "\n".join(
        [
            "set -e; umask 077",
            f"install -d -m 0700 {CA_FOLDER}; cd {CA_FOLDER}",
            *(() if renewed else (f"openssl ecparam -name prime256v1 -genkey -noout -out {name}.key",)),
            f"openssl req -x509 -new -key {name}.key -sha256 -days {CA_DAYS} -subj {shlex.quote(f'/CN={common_name}')} "
            "-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign "
            f"-addext {shlex.quote(f'nameConstraints=critical,{constraints}')} -out {name}.crt.new",
            # The certificate is put into place last: if it is there, the CA is complete.
            f"sync -- {name}.key; {into_place(f'{name}.crt.new', f'{name}.crt')}",
        ]
    )
