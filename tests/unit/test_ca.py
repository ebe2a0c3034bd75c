"""The scripts of the CA, which really run here in a folder: what they sign, and what they can never sign."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

import pytest

from facts.ca import CA_FOLDER, CertificateState
from operations import ca

NAMES = "DNS:gate.vpn.house.internal"


def sh(script: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    text = script.replace(CA_FOLDER, str(folder / "ca"))
    return subprocess.run(["sh", "-c", text], input=stdin, text=True, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA for house.internal, made by the operation's own command."""
    script = ca.authority_script("Test CA", ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0"))
    done = sh(script, tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def issue(folder: Path, names: str) -> tuple[str, str]:
    """Make a key and a certificate for `names`, in the same way as for a server. Returns their texts."""
    tls, owner = str(folder / "tls"), getpass.getuser()
    request = sh(ca.request_script(tls, owner, names), folder)
    assert request.returncode == 0, request.stderr
    signed = sh(ca.sign_script(names), folder, request.stdout)
    assert signed.returncode == 0, signed.stderr
    installed = sh(ca.install_script(tls, owner), folder, signed.stdout)
    assert installed.returncode == 0, installed.stderr
    return f"{tls}/cert.pem", f"{tls}/key.pem"


def state(folder: Path, names: str) -> str:
    ca, tls = str(folder / "ca" / "ca.crt"), folder / "tls"
    script = CertificateState().command(f"{tls}/cert.pem", f"{tls}/key.pem", getpass.getuser(), names, ca)
    return sh(script, folder).stdout.strip()


def test_a_certificate_for_the_house_is_good_and_others_are_not(folder: Path) -> None:
    assert state(folder, NAMES) == "missing"
    cert, key = issue(folder, NAMES)
    assert state(folder, NAMES) == "good"
    assert state(folder, "DNS:other.house.internal") == "other names"
    assert Path(key).stat().st_mode & 0o777 == 0o400
    text = subprocess.run(
        ["openssl", "x509", "-in", cert, "-noout", "-text"], text=True, capture_output=True, check=True
    )
    assert "TLS Web Server Authentication" in text.stdout and "CA:FALSE" in text.stdout


def test_the_authority_cannot_vouch_for_a_name_outside_the_house(folder: Path) -> None:
    issue(folder, "DNS:bank.example")
    # The CA can sign such a certificate, but programs that trust the CA refuse it.
    assert state(folder, "DNS:bank.example") == "not signed by the CA"


def test_the_signer_takes_the_names_from_the_deployment_not_from_the_request(folder: Path) -> None:
    request = sh(ca.request_script(str(folder / "tls"), getpass.getuser(), "DNS:bank.example"), folder)
    signed = sh(ca.sign_script(NAMES), folder, request.stdout)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName"],
        input=signed.stdout,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "gate.vpn.house.internal" in shown.stdout and "bank" not in shown.stdout


def test_a_damaged_request_is_refused(folder: Path) -> None:
    assert sh(ca.sign_script(NAMES), folder, "nonsense").returncode != 0


def test_a_key_that_was_replaced_is_noticed(folder: Path) -> None:
    _, key = issue(folder, NAMES)
    Path(key).unlink()
    made = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"], capture_output=True, check=True
    )
    Path(key).write_bytes(made.stdout)
    assert state(folder, NAMES) == "the key does not match"


def test_a_key_that_others_could_read_is_replaced(folder: Path) -> None:
    _, key = issue(folder, NAMES)
    before = Path(key).read_text()
    issue(folder, NAMES)
    assert Path(key).read_text() == before
    Path(key).chmod(0o444)
    assert state(folder, NAMES) == "the key is not private"
    issue(folder, NAMES)
    assert Path(key).read_text() != before
    assert state(folder, NAMES) == "good"
