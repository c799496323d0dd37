"""TLS that trusts named certificates only, decided inside the handshake: a stranger gets not one byte of ours."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable


class CertificateMismatch(ssl.SSLCertVerificationError):
    """The certificate of the other side has none of the pinned fingerprints."""


def fingerprint(der: bytes) -> str:
    """`sha256:<64 hex>` of a certificate in DER form."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def pinned(fingerprints: Iterable[str], *, ca: str = "") -> ssl.SSLContext:
    """A client context that accepts only certificates with one of these fingerprints (several allow rotation).

    With `ca` (PEM) the chain and the host name must hold as well. Raises ssl.SSLError for an unreadable `ca`.
    """
    accepted = frozenset(fingerprints)

    class Handshake(ssl.SSLObject):
        """Ends the handshake before our side's last message when the certificate is not one of ours."""

        def do_handshake(self) -> None:
            super().do_handshake()
            der = self.getpeercert(binary_form=True)
            shown = fingerprint(der) if der else "no certificate"
            if shown not in accepted:
                raise CertificateMismatch(f"the node shows {shown}, which is not pinned")

    context = ssl.create_default_context(cadata=ca) if ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not ca:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = Handshake
    return context


def trusting(*, ca: str = "") -> ssl.SSLContext:
    """A client context that verifies chain and host name, by `ca` (PEM) alone or else by the machine's authorities."""
    return ssl.create_default_context(cadata=ca) if ca else ssl.create_default_context()
