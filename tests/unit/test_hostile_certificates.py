"""The names in certificates. openssl itself writes and reads them."""

from __future__ import annotations

import getpass
import subprocess
import tempfile
from pathlib import Path

from cryptography import x509
from hypothesis import given

from facts.ca import CA_FOLDER, CertificateState
from operations.ca import server as ca
from plan.house.house import House
from plan.house.setting_values import DOMAIN_MOST
from tests.unit.hostile import fewer
from tests.unit.test_hostile_house import PLAIN, house_of, odd_names, sent

LONG = {
    **PLAIN,
    "qqhouse": "h" * 50,
    "qqgate": "g" * 63,
    "qqdomain.qqtop": f"{'d' * 63}.{'e' * 63}.{'f' * 40}.internal",
}


def sh(script: str, folder: Path, stdin: str = "") -> str:
    text = script.replace(CA_FOLDER, str(folder / "ca"))
    done = subprocess.run(["dash", "-c", text], input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def judged(house: House, folder: Path) -> None:
    """Check that the CA and the gateway's certificate are for these names only. The deployment's own commands make
    them."""
    (authority,) = (text for what, text in sent(house) if what.startswith(house.coordinator.name) and "-x509" in text)
    sh(authority, folder)
    found = x509.load_pem_x509_certificate((folder / "ca/ca.crt").read_bytes())
    assert [each.value for each in found.subject] == [f"Private AI {house.name} CA"]
    permitted = found.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    assert [str(each.value) for each in permitted] == [house.domain, house.vpn_v4, house.vpn_v6]

    owner, tls, names = getpass.getuser(), str(folder / "tls"), f"DNS:{house.vpn_name(house.gateways[0])}"
    signed = sh(ca.sign_script(names), folder, sh(ca.request_script(tls, owner, names), folder))
    sh(ca.install_script(tls, owner), folder, signed)
    files = (f"{tls}/cert.pem", f"{tls}/key.pem", owner, names, str(folder / "ca/ca.crt"))
    assert sh(CertificateState().command(*files), folder) == "good\n"
    found = x509.load_pem_x509_certificate(Path(f"{tls}/cert.pem").read_bytes())
    named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [f"DNS:{each.value}" for each in named] == [names]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len(found.extensions) == 6 and len(list(found.subject)) == 1


@fewer(20)
@given(odd_names())
def test_a_certificate_names_what_the_house_is_called_and_nothing_else(name: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        judged(house_of(name), Path(folder))


def test_the_longest_names_that_the_settings_take(tmp_path: Path) -> None:
    assert len(LONG["qqdomain.qqtop"]) <= DOMAIN_MOST
    judged(house_of(LONG), tmp_path)
