"""The node's own certificate: made at the first start, trusted by its fingerprint."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from toolkeeper.dtma.pinning import fingerprint
from toolkeeper.errors import Invalid

YEARS = 10
"""It is pinned, so its end is no protection; a certificate that ends by itself would only be an outage."""


def ensure_certificate(directory: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """Paths of certificate and key, made if they are absent. The key is readable by its owner only."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    if not (certificate.exists() and key.exists()):
        made, secret = _make([*names, socket.gethostname(), "localhost", "127.0.0.1", "::1"], now)
        _write(key, secret)
        _write(certificate, made)
    return certificate, key


def fingerprint_of(certificate: Path) -> str:
    """`sha256:…` of the first certificate in a PEM file. Raises Invalid."""
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(_first(certificate.read_text())))
    except (OSError, ValueError) as exc:
        raise Invalid(f"{certificate} is no certificate: {exc}") from exc


def _first(pem: str) -> str:
    end = "-----END CERTIFICATE-----"
    return pem[: pem.index(end) + len(end)].strip()


def _make(names: Iterable[str], now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "toolkeeper node")])
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the other side's clock may be behind
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)
