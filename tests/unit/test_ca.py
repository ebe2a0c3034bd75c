"""The scripts of the CA, which really run here in a folder: what they sign, and what they can never sign."""

from __future__ import annotations

import getpass
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from facts.ca import CA_FOLDER, RENEW_DAYS, CertificateState
from operations import ca
from operations.ca import CA_DAYS, SERVER_DAYS

NAMES = "DNS:gate.vpn.house.internal"


def sh(script: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    text = script.replace(CA_FOLDER, str(folder / "ca"))
    return subprocess.run(["sh", "-c", text], input=stdin, text=True, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA for house.internal, made by the operation's own command."""
    authority_of(tmp_path, CA_DAYS)
    return tmp_path


def authority_of(folder: Path, days: int) -> None:
    """Make a CA for house.internal that is valid for `days`."""
    script = ca.authority_script("Test CA", ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0"))
    done = sh(script.replace(f"-days {CA_DAYS}", f"-days {days}"), folder)
    assert done.returncode == 0, done.stderr


def days_left(folder: Path) -> float:
    """Days until the server's certificate ends."""
    end = x509.load_pem_x509_certificate((folder / "tls/cert.pem").read_bytes()).not_valid_after_utc
    return (end - datetime.now(UTC)).total_seconds() / 86400


def issue(folder: Path, names: str, sign: str = "") -> tuple[str, str]:
    """Make a key and a certificate for `names`, in the same way as for a server. Returns their paths as texts."""
    tls, owner = str(folder / "tls"), getpass.getuser()
    request = sh(ca.request_script(tls, owner, names), folder)
    assert request.returncode == 0, request.stderr
    signed = sh(sign or ca.sign_script(names), folder, request.stdout)
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
    Path(key).chmod(0o444)
    assert state(folder, NAMES) == "the key is not private"
    issue(folder, NAMES)
    assert state(folder, NAMES) == "good"


def test_each_certificate_has_a_new_key(folder: Path) -> None:
    _, key = issue(folder, NAMES)
    before = Path(key).read_text()
    issue(folder, NAMES)
    assert Path(key).read_text() != before
    assert state(folder, NAMES) == "good"
    assert {each.name for each in (folder / "tls").iterdir()} == {"cert.pem", "key.pem"}


def test_a_key_that_was_not_certified_is_not_used(folder: Path) -> None:
    """A run that is cut off before the coordinator has signed leaves the service what it has."""
    issue(folder, NAMES)
    before = {each.name: each.read_text() for each in (folder / "tls").iterdir()}
    tls, owner = str(folder / "tls"), getpass.getuser()
    earlier = sh(ca.request_script(tls, owner, NAMES), folder).stdout
    assert {name: (folder / "tls" / name).read_text() for name in before} == before
    assert state(folder, NAMES) == "good"
    # Meanwhile another run has asked, too.
    sh(ca.request_script(tls, owner, NAMES), folder)
    installed = sh(ca.install_script(tls, owner), folder, sh(ca.sign_script(NAMES), folder, earlier).stdout)
    assert installed.returncode == 1 and "the certificate is for another key" in installed.stderr
    assert state(folder, NAMES) == "good"


def test_a_certificate_is_renewed_when_half_of_its_life_is_over(folder: Path) -> None:
    assert RENEW_DAYS == SERVER_DAYS // 2
    issue(folder, NAMES)
    assert abs(days_left(folder) - SERVER_DAYS) < 0.1
    for days, wanted in ((RENEW_DAYS + 1, "good"), (RENEW_DAYS, f"fewer than {RENEW_DAYS} days left")):
        issue(folder, NAMES, sign=ca.sign_script(NAMES).replace(f"days={SERVER_DAYS}", f"days={days}"))
        assert state(folder, NAMES) == wanted, days


@pytest.mark.parametrize("days", [400, 30, 2])
def test_no_certificate_outlives_its_authority_and_none_is_made_again_and_again_for_that(
    tmp_path: Path, days: int
) -> None:
    authority_of(tmp_path, days)
    issue(tmp_path, NAMES)
    # Whole days, so that it ends within the authority's last one.
    assert days - 1.1 < days_left(tmp_path) < days
    assert state(tmp_path, NAMES) == "good"
    issue(tmp_path, NAMES, sign=ca.sign_script(NAMES).replace("-days $days", f"-days {days - 1} -text"))
    assert state(tmp_path, NAMES) == "good"


def test_an_authority_that_is_about_to_end_signs_nothing(tmp_path: Path) -> None:
    authority_of(tmp_path, 1)
    request = sh(ca.request_script(str(tmp_path / "tls"), getpass.getuser(), NAMES), tmp_path)
    signed = sh(ca.sign_script(NAMES), tmp_path, request.stdout)
    assert signed.returncode == 1 and "the authority of the house has no day left" in signed.stderr
