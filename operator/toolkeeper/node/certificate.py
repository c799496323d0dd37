"""The node's own certificate: made at the first start, trusted by its fingerprint."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from toolkeeper.dtma.pinning import fingerprint
from toolkeeper.errors import Invalid
from toolkeeper.node.private_files import replace_file


def ensure_certificate(directory: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """Paths of certificate and key, made if they are absent. The key is readable by its owner only."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    if not (certificate.exists() and key.exists()):
        # Needed once in a node's life, and 6 MB for the rest of it.
        from toolkeeper.node.certificate_making import make_certificate  # noqa: PLC0415 - as above

        made, secret = make_certificate([*names, socket.gethostname(), "localhost", "127.0.0.1", "::1"], now)
        replace_file(key, secret)
        replace_file(certificate, made)
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
