"""The node's own certificate: made at the first start, trusted by its fingerprint."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from toolkeeper.dtma.pinning import fingerprint
from toolkeeper.errors import Invalid


def ensure_certificate(directory: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """Paths of certificate and key, made if they are absent. The key is readable by its owner only."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    if not (certificate.exists() and key.exists()):
        # Needed once in a node's life, and 6 MB for the rest of it.
        from toolkeeper.node.certificate_making import make_certificate  # noqa: PLC0415 - as above

        made, secret = make_certificate([*names, socket.gethostname(), "localhost", "127.0.0.1", "::1"], now)
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


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)
