"""The scripts of the CA, which really run here in a folder: what they sign, and what they can never sign."""

from __future__ import annotations

import getpass
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from facts.ca import CA_FOLDER, RENEW_DAYS, SUCCESSOR, CertificateState
from operations.ca import server as ca
from operations.ca.authority import CA_DAYS, authority_script
from operations.ca.server import SERVER_DAYS
from plan.ca import OVERLAP_DAYS, SWAP_DAYS, half_over

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
    script = authority_script("Test CA", ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0"))
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


def state(folder: Path, names: str, **more: Any) -> str:
    ca, tls = str(folder / "ca" / "ca.crt"), folder / "tls"
    script = CertificateState().command(f"{tls}/cert.pem", f"{tls}/key.pem", getpass.getuser(), names, ca, **more)
    return sh(script, folder).stdout.strip()


def succeed(folder: Path, names: str = NAMES) -> None:
    """Make the successor of the certificate, in the same way as for a gateway on another host."""
    tls, owner = folder / "tls", getpass.getuser()
    request = sh(ca.request_script(f"{tls}/next", owner, names), folder).stdout
    signed = sh(ca.sign_script(names, successor=True), folder, f"{(tls / 'cert.pem').read_text()}\n{request}")
    assert signed.returncode == 0, signed.stderr
    if signed.stdout:
        installed = sh(ca.install_script(f"{tls}/next", owner), folder, signed.stdout)
        assert installed.returncode == 0, installed.stderr


def aged(folder: Path, days: int) -> None:
    """Let days pass: sign the certificate, and its successor, again for their keys, with dates that lie in the past."""
    for place in (folder / "tls", folder / "tls/next"):
        file = place / "cert.pem"
        if not file.exists():
            continue
        found = x509.load_pem_x509_certificates(file.read_bytes())[0]
        key = serialization.load_pem_private_key((folder / "ca/ca.key").read_bytes(), None)
        moved = x509.CertificateBuilder(
            x509.load_pem_x509_certificate((folder / "ca/ca.crt").read_bytes()).subject,
            found.subject,
            found.public_key(),
            found.serial_number,
            found.not_valid_before_utc - timedelta(days=days),
            found.not_valid_after_utc - timedelta(days=days),
            list(found.extensions),
        ).sign(key, hashes.SHA256())  # type: ignore[arg-type]
        text = moved.public_bytes(serialization.Encoding.PEM).decode() + (folder / "ca/ca.crt").read_text()
        file.chmod(0o600)
        file.write_text(text)
        file.chmod(0o440)


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
    issue(
        tmp_path,
        NAMES,
        sign=ca.sign_script(NAMES).replace("if [ $days -lt 1 ]", f"days={days - 1}; if [ $days -lt 1 ]"),
    )
    assert state(tmp_path, NAMES) == "good"


def test_an_authority_that_is_about_to_end_signs_nothing(tmp_path: Path) -> None:
    authority_of(tmp_path, 1)
    request = sh(ca.request_script(str(tmp_path / "tls"), getpass.getuser(), NAMES), tmp_path)
    signed = sh(ca.sign_script(NAMES), tmp_path, request.stdout)
    assert signed.returncode == 1 and "the authority of the house has no day left" in signed.stderr


def test_a_successor_is_signed_in_advance_and_begins_before_the_certificate_ends(folder: Path) -> None:
    issue(folder, NAMES)
    assert state(folder, NAMES) == "good"
    assert state(folder, NAMES, successor=True) == "it has no successor"
    succeed(folder)
    assert state(folder, NAMES, successor=True) == "good"
    tls = folder / "tls"
    first, following = (
        x509.load_pem_x509_certificate((each / "cert.pem").read_bytes()) for each in (tls, tls / "next")
    )
    assert first.not_valid_after_utc - following.not_valid_before_utc == timedelta(days=OVERLAP_DAYS)
    assert following.not_valid_after_utc - following.not_valid_before_utc == timedelta(days=SERVER_DAYS)
    assert first.public_key() != following.public_key()
    assert (tls / "next").stat().st_mode & 0o777 == 0o700
    # Nobody can use it before it begins.
    assert "not yet valid" in sh(f"openssl verify -CAfile {folder}/ca/ca.crt {tls}/next/cert.pem", folder).stderr


def test_a_successor_that_does_not_fit_is_noticed(folder: Path) -> None:
    issue(folder, NAMES)
    succeed(folder, "DNS:other.vpn.house.internal")
    assert state(folder, NAMES, successor=True) == "its successor has other names"
    succeed(folder)
    key = folder / "tls/next/key.pem"
    key.chmod(0o444)
    assert state(folder, NAMES, successor=True) == "its successor's key is not private"
    succeed(folder)
    key.unlink()
    assert state(folder, NAMES, successor=True) == "it has no successor"
    key.write_bytes((folder / "tls/key.pem").read_bytes())
    key.chmod(0o400)
    assert state(folder, NAMES, successor=True) == "its successor's key does not match"
    # A run has renewed the certificate, and was cut off before it made a new successor.
    succeed(folder)
    aged(folder, 500)
    issue(folder, NAMES)
    assert state(folder, NAMES, successor=True) == "its successor is for an earlier certificate"
    succeed(folder)
    assert state(folder, NAMES, successor=True) == "good"
    # Each of these reasons lets the certificate itself stay as it is.
    assert all(why.startswith(SUCCESSOR) for why in ("it has no successor", "its successor's key does not match"))


@pytest.mark.parametrize("days", [SERVER_DAYS + OVERLAP_DAYS + 2, SERVER_DAYS + OVERLAP_DAYS - 2, 400])
def test_a_successor_ends_with_its_authority(tmp_path: Path, days: int) -> None:
    authority_of(tmp_path, days)
    issue(tmp_path, NAMES)
    succeed(tmp_path)
    assert (tmp_path / "tls/next/cert.pem").exists() == (days > SERVER_DAYS + OVERLAP_DAYS)
    assert state(tmp_path, NAMES, successor=True) == "good"


def swap(folder: Path) -> subprocess.CompletedProcess[str]:
    return sh(ca.successor_script(str(folder / "tls"), str(folder / "ca/ca.crt")), folder)


def test_a_successor_takes_the_place_of_its_certificate_when_it_has_begun(folder: Path) -> None:
    issue(folder, NAMES)
    tls = folder / "tls"
    before = (tls / "key.pem").read_text()
    said = swap(folder)
    assert (
        said.returncode == 1
        and said.stderr == f"the successor of {tls}/cert.pem is missing. Next: run the deployment\n"
    )
    succeed(folder)
    said = swap(folder)
    assert said.returncode == 1 and "is not valid now" in said.stderr
    assert (tls / "key.pem").read_text() == before and state(folder, NAMES, successor=True) == "good"
    aged(folder, SERVER_DAYS - SWAP_DAYS + 1)
    assert state(folder, NAMES, days=SWAP_DAYS) == f"fewer than {SWAP_DAYS} days left"
    said = swap(folder)
    assert said.returncode == 0, said.stderr
    assert state(folder, NAMES) == "good" and (tls / "key.pem").read_text() != before
    assert days_left(folder) > SERVER_DAYS - OVERLAP_DAYS
    assert state(folder, NAMES, successor=True) == "it has no successor"


@pytest.mark.parametrize("late", [1, 400])
def test_a_swap_that_was_cut_off_is_finished_by_the_next_also_after_the_end(folder: Path, late: int) -> None:
    issue(folder, NAMES)
    succeed(folder)
    aged(folder, SERVER_DAYS - SWAP_DAYS + late)
    assert state(folder, NAMES, days=SWAP_DAYS) in (f"fewer than {SWAP_DAYS} days left", "it has expired")
    (folder / "tls/next/key.pem").rename(folder / "tls/key.pem")
    assert state(folder, NAMES, days=SWAP_DAYS) == "the key does not match"
    assert swap(folder).returncode == 0
    assert state(folder, NAMES, days=SWAP_DAYS) == "good"


def test_the_host_with_the_authority_signs_for_itself(folder: Path) -> None:
    issue(folder, NAMES)
    tls, authority = str(folder / "tls"), str(folder / "ca/ca.crt")
    before = (folder / "tls/key.pem").read_text()
    aged(folder, SERVER_DAYS + 100)
    assert state(folder, NAMES) == "it has expired"
    script = ca.signed_here_script(tls, getpass.getuser(), NAMES, authority)
    done = sh(script, folder)
    assert done.returncode == 0, done.stderr
    assert state(folder, NAMES) == "good" and (folder / "tls/key.pem").read_text() != before
    # With another authority than the one that the house trusts, the certificate that is in use stays.
    kept = (folder / "tls/cert.pem").read_text()
    other = folder / "other"
    other.mkdir()
    authority_of(other, CA_DAYS)
    script = ca.signed_here_script(tls, getpass.getuser(), NAMES, str(other / "ca/ca.crt"))
    assert sh(script, folder).returncode != 0
    assert (folder / "tls/cert.pem").read_text() == kept and state(folder, NAMES) == "good"


def test_a_new_certificate_of_the_authority_needs_no_change_on_devices(folder: Path) -> None:
    issue(folder, NAMES)
    old = (folder / "ca/ca.crt").read_text()
    key = (folder / "ca/ca.key").read_text()
    assert not half_over(old, datetime.now(UTC) + timedelta(days=CA_DAYS // 2 - 1))
    assert half_over(old, datetime.now(UTC) + timedelta(days=CA_DAYS // 2 + 1))
    assert not half_over("no certificate", datetime.now(UTC))
    script = authority_script("Test CA", ("DNS:house.internal", "IP:100.64.0.0/255.192.0.0"), renewed=True)
    assert sh(script, folder).returncode == 0
    new = (folder / "ca/ca.crt").read_text()
    assert new != old and (folder / "ca/ca.key").read_text() == key
    # A certificate of before, with the new one of the authority; then one of now, with the old one.
    assert state(folder, NAMES) == "good"
    issue(folder, NAMES)
    (folder / "ca/ca.crt").write_text(old)
    assert state(folder, NAMES) == "good"
