"""The enrolment page for one device: one HTML file with all that the device needs to join the house."""

from __future__ import annotations

import base64
import hashlib
import plistlib
import re
import ssl
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import jinja2
import segno
from markupsafe import Markup, escape

from plan.devices.declared import Kind

#: ISO 18004 requires a margin of four light modules around a QR code.
_QUIET_ZONE = 4
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent.parent.parent / "templates" / "enrolment"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What one device needs to join one house.

    `control_url`: the control server's address, as apps read it. `control_addresses`: the coordinator's addresses on
    the local network; people need them, because the server's name is in no public DNS. `key` works once, until
    `key_ends` (with a time zone). `ui_url`: the Control UI, without the token.
    """

    device: str
    owner: str
    kind: Kind
    house: str
    control_url: str
    control_addresses: tuple[str, ...]
    key: str = field(repr=False)
    key_ends: datetime
    ca_pem: str
    ui_url: str
    token: str = field(repr=False)
    #: The first version of Tailscale with which the device cannot reach the hosts; "" for none. See
    #: plan/tailscale/client_versions.py.
    too_new: str


@dataclass(frozen=True)
class Download:
    """A file inside the page. Its link has the content, so it needs no server."""

    name: str
    media_type: str
    content: bytes

    @property
    def href(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


def page(enrolment: Enrolment) -> str:
    """The whole page as HTML. It has no scripts and loads nothing. It has secrets in it.

    Raises ValueError when `ca_pem` is not one certificate, when `key_ends` has no time zone, or when `control_url` has
    an address instead of a name.
    """
    control = urlsplit(enrolment.control_url)
    if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z][a-z0-9-]*", control.hostname or ""):
        # If the control server is given by an address, Tailscale does not check the name in its certificate. Then in
        # another network, a machine with that address and any certificate of a public CA could act as control server.
        raise ValueError(f"control_url is {enrolment.control_url}: the control server has to be named, not its address")
    # The Control UI reads the token from the part after '#'. Browsers do not send that part over the network.
    ui_link = f"{enrolment.ui_url}#token={quote(enrolment.token, safe='')}"
    return _TEMPLATES.get_template(f"{enrolment.kind}.html.j2").render(
        it=enrolment,
        ends=_moment(enrolment.key_ends),
        control_name=control.hostname,
        health_url=f"{enrolment.control_url}/health",
        ui_link=ui_link,
        fingerprint=fingerprint(enrolment.ca_pem),
        profile=profile(enrolment.house, enrolment.ca_pem),
        certificate=certificate(enrolment),
        codes={
            "control": _code(enrolment.control_url, "QR code of the control server's address"),
            "key": _code(enrolment.key, "QR code of the join key"),
            "ui": _code(ui_link, "QR code of the assistant's address with its token"),
        },
    )


def fingerprint(ca_pem: str) -> str:
    """The certificate's SHA-256 as openssl prints it: pairs of upper-case digits with colons. Raises ValueError when
    `ca_pem` is not a certificate."""
    return hashlib.sha256(_der(ca_pem)).digest().hex(":").upper()


def certificate(enrolment: Enrolment) -> Download:
    """The CA as a file: PEM for Linux, because its certificate stores read text; DER for the others, because their
    tools show the digest of the file."""
    name = f"private-ai-{enrolment.house}.crt"
    der = _der(enrolment.ca_pem)
    content = ssl.DER_cert_to_PEM_cert(der).encode() if enrolment.kind == "linux" else der
    return Download(name, "application/x-x509-ca-cert", content)


def profile(house: str, ca_pem: str) -> Download:
    """The CA as an Apple configuration profile. The same CA always gives the same identifiers."""
    title, name = f"Private AI {house}", f"private-ai-{house}"
    described = "Trusts the certificates of this house, and of nothing else: the authority may sign for no other names."

    def head(kind: str, part: str) -> dict[str, object]:
        return {
            "PayloadType": kind,
            "PayloadVersion": 1,
            "PayloadIdentifier": f"internal.{name}.{part}",
            "PayloadUUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{part}/{fingerprint(ca_pem)}")).upper(),
            "PayloadDisplayName": title,
            "PayloadDescription": described,
        }

    root = {
        **head("com.apple.security.root", "ca"),
        "PayloadCertificateFileName": f"{name}.crt",
        "PayloadContent": _der(ca_pem),
    }
    content = plistlib.dumps({**head("Configuration", "profile"), "PayloadContent": [root]})
    return Download(f"{name}.mobileconfig", "application/x-apple-aspen-config", content)


def _der(ca_pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ca_pem.strip())


def _moment(when: datetime) -> str:
    if when.utcoffset() is None:
        raise ValueError(f"key_ends is {when}, without a time zone")
    # "UTC" or "UTC+01:00", since the abbreviation of a zone is not unique: IST stands for three zones.
    zone = "UTC" + (when.isoformat(timespec="minutes")[-6:] if when.utcoffset() else "")
    return f"{when:%A} {when.day} {when:%B %Y}, {when:%H:%M} {zone}"


def _code(text: str, alt: str) -> Markup:
    """A QR code as SVG, dark on light in every colour scheme. `alt`: the text for screen readers."""
    svg = segno.make_qr(text, error="m").svg_inline(
        border=_QUIET_ZONE, omitsize=True, dark="#000", light="#fff", svgclass=None, lineclass=None
    )
    return Markup(svg.replace("<svg", f'<svg class="code" role="img" aria-label="{escape(alt)}"', 1))
