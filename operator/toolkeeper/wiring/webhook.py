"""The bell that a Git server rings after a push. Whoever rings it rightly causes a pull, and nothing else.

Nothing of the body is believed, or even parsed: it only proves, with its signature, that the caller knows the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from toolkeeper.clock import Clock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.wiring.port import Application

PATH = "/webhook"
LARGEST = 8 * 1024 * 1024
"""Bytes of a body; GitHub's of a large push are among the longest."""
BODY_SECONDS = 20.0
"""How long a body may take altogether."""


def rightful(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether the caller knows the secret: GitHub, Gitea, Forgejo and Bitbucket sign the body with it, GitLab sends it.

    In the header where Bitbucket puts its SHA-256, GitHub puts an SHA-1 for old receivers, which proves nothing here.
    """
    signature = headers.get("HTTP_X_HUB_SIGNATURE_256", "") or headers.get("HTTP_X_HUB_SIGNATURE", "")
    if signature:
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature.encode("latin-1", "replace"), expected.encode())
    sent = headers.get("HTTP_X_GITLAB_TOKEN", "")
    # Digests have one length, so that not even the secret's length can be measured.
    digests = [hashlib.sha256(each).digest() for each in (sent.encode("latin-1", "replace"), secret.encode())]
    return bool(sent) and hmac.compare_digest(*digests)


def webhook(
    secret: Callable[[], str], ring: Callable[[], None], told: Callable[[str], None], clock: Clock
) -> Application:
    """The endpoint. `secret` is asked at each call; `ring` and `told` (the outcome) are called in other threads."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, said = _answer(environ, secret, clock)
        outcome = {"2": "accepted", "5": "failed"}.get(status[0], "refused")
        told(outcome)
        if outcome == "accepted":
            ring()
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if status.startswith("405"):
            headers.append(("Allow", "POST"))
        start_response(status, headers)
        return [said.encode() + b"\n"]

    return app


def _answer(environ: Mapping[str, Any], secret: Callable[[], str], clock: Clock) -> tuple[str, str]:
    if environ.get("PATH_INFO", "") != PATH:
        return "404 Not Found", f"try POST {PATH}"
    if environ.get("REQUEST_METHOD") != "POST":
        return "405 Method Not Allowed", "only POST"
    length = str(environ.get("CONTENT_LENGTH") or "")
    if not length.isascii() or not length.isdigit():
        return "411 Length Required", "say how long the body is"
    if len(length) > 12 or int(length) > LARGEST:
        return "413 Content Too Large", f"at most {LARGEST // 2**20} MiB"
    body = _body(environ["wsgi.input"], int(length), clock)
    if body is None:
        return "408 Request Timeout", "the body did not come"
    try:
        known = secret()
    except ToolkeeperError:
        return "503 Service Unavailable", "the secret cannot be read here; see the operator's log"
    if not rightful(environ, body, known):
        return "401 Unauthorized", "the signature or token is not the right one"
    return "202 Accepted", "pulling"


def _body(stream: BinaryIO, length: int, clock: Clock) -> bytes | None:
    deadline = clock.monotonic() + BODY_SECONDS
    parts: list[bytes] = []
    left = length
    while left:
        try:
            part = stream.read1(min(left, 64 * 1024))  # type: ignore[attr-defined]  # it is a buffered reader
        except OSError:
            return None
        if not part or clock.monotonic() > deadline:
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
