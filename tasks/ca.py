"""CA: the house's own certificate authority. Every host trusts it, and it can sign for the house's names only."""

from __future__ import annotations

import ipaddress

from pyinfra import inventory

from facts.ca import CaCertificate, CaOther
from operations.ca.authority import authority
from operations.engine.answers import NotYet, ask
from operations.engine.component import component
from plan.ca import authority_name
from plan.engine.want import Component, Effect, File
from plan.house.house import House
from tasks.engine.hosts import This

#: The file with all certificates that the system trusts. Programs read this file.
STORE = "/etc/ssl/certs/ca-certificates.crt"


def certificate_path(house: House) -> str:
    """The path of the CA's certificate on a host, in the folder from which the system's store is made."""
    return f"/usr/local/share/ca-certificates/private-ai-{house.name}.crt"


def other_path(house: House) -> str:
    """The same for the second authority of a house that is getting a new one."""
    return certificate_path(house).replace(".crt", ".other.crt")


def in_store(path: str) -> str:
    """A command that succeeds when the certificate at `path` is in the system's store."""
    return f"openssl verify -no-CApath -no-CAstore -CAfile {STORE} {path} >/dev/null 2>&1"


def deploy_authority(this: This) -> None:
    """On the coordinator: make the CA once."""
    authority(
        name="CA | Authority of the house", common_name=authority_name(this.house), permitted=permitted(this.house)
    )


def permitted(house: House) -> tuple[str, ...]:
    """The names and addresses for which the CA may sign, in openssl's form."""
    networks = [ipaddress.ip_network(text) for text in (house.vpn_v4, house.vpn_v6)]
    # If any address is permitted, all other addresses are forbidden. The certificates of the house contain names only.
    addresses = [f"IP:{network.network_address}/{network.netmask}" for network in networks]
    return (f"DNS:{house.domain}", *addresses)


def deploy_trust(this: This) -> None:
    """On every host: trust the CA. Services that read the store at their start have it as an input, so they restart."""
    coordinator = this.house.coordinator.name
    path, beside = certificate_path(this.house), other_path(this.house)
    update = "update-ca-certificates >/dev/null"

    def wanted() -> Component:
        certificate = ask(inventory.get_host(coordinator), CaCertificate)
        if not certificate:
            raise NotYet("the CA is made on the coordinator first")
        first = File(path, certificate)
        other = ask(inventory.get_host(coordinator), CaOther).pem
        if not other:
            # --fresh, because without it the links to a certificate that is gone stay.
            gone = Effect(beside, f"! test -e {beside}", f"rm {beside}; update-ca-certificates --fresh >/dev/null 2>&1")
            return Component(files=(first,), effects=(Effect(path, in_store(path), update), gone))
        # Both, until all servers have certificates of the new one.
        effects = (Effect(each, in_store(each), update) for each in (path, beside))
        return Component(files=(first, File(beside, other)), effects=tuple(effects))

    component(name="CA | Trust it", want=wanted)
