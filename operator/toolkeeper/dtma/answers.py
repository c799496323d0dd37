"""What an answer of a node means. The only place that turns statuses and httpx's errors into ours."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from toolkeeper.dtma.pinning import CertificateMismatch
from toolkeeper.dtma.wire import ErrorBody
from toolkeeper.errors import Conflict, Fenced, NotFound, Refused, ToolkeeperError, Unreachable

T = TypeVar("T")
WORD = re.compile(r"[A-Z][A-Za-z]{0,63}")
"""What a reason looks like; a host is untrusted input."""


def meaning(status: int, body: bytes) -> ToolkeeperError:
    """The error that a status outside 2xx stands for.

    401/403 AuthenticationFailed; 404 NotFound; 409 Fenced or Conflict, as its reason says; 429 and 5xx: nothing can be
    concluded; any other 4xx: refused, with the node's reason. An answer that is not of our shape comes from somebody
    else (a proxy, another program on that port): nothing can be concluded either, least of all absence.
    """
    try:
        detail = ErrorBody.model_validate_json(body).error
    except ValidationError:
        reason = "AuthenticationFailed" if status in {401, 403} else "ToolboxUnreachable"
        return Unreachable(f"HTTP {status}, and not as a node of ours says it", reason=reason)
    if status in {401, 403}:
        return Unreachable(detail.message, reason="AuthenticationFailed")
    if status == 404 and detail.reason == "NotFound":
        return NotFound(detail.message)
    if status == 409:
        return Fenced(detail.message) if detail.reason == "Fenced" else Conflict(detail.message)
    if status == 503 and detail.reason == "RuntimeUnavailable":
        return Unreachable(detail.message, reason=detail.reason)
    if 400 <= status < 500 and status not in {404, 429}:
        return Refused(detail.message, reason=detail.reason if WORD.fullmatch(detail.reason) else "Refused")
    return Unreachable(f"the node answered {status}: {detail.message}")


def decoded(adapter: TypeAdapter[T], body: bytes) -> T:
    """The body as that type. Raises Unreachable: an answer that cannot be read says nothing about the host."""
    try:
        return adapter.validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Unreachable(f"the node's answer cannot be read: {where}: {first['msg']}") from exc


NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
"""What OpenSSL calls an answer that is no TLS; which word it finds depends on its version and on the answer."""


@contextmanager
def translated(endpoint: str) -> Iterator[None]:
    """Foreign errors become Unreachable, with the cause kept."""
    try:
        yield
    except TimeoutError as exc:
        raise Unreachable(f"{endpoint} did not answer in time") from exc
    except httpx.TimeoutException as exc:
        raise Unreachable(f"{endpoint} did not answer in time ({_word(exc)})") from exc
    except httpx.HTTPError as exc:
        raise _unreachable(endpoint, exc) from exc
    except (OSError, httpx.InvalidURL) as exc:
        raise Unreachable(f"{endpoint} cannot be reached: {exc}") from exc


def _unreachable(endpoint: str, error: httpx.HTTPError) -> Unreachable:
    for cause in _causes(error):
        if isinstance(cause, CertificateMismatch):
            return Unreachable(f"{endpoint}: {cause.args[0]}", reason="CertificateMismatch")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{endpoint} shows a certificate that is not trusted: {cause.verify_message}",
                reason="CertificateMismatch",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS:
            return Unreachable(
                f"{endpoint} answers without TLS: a node that listens on loopback only needs --tls on, "
                "or the endpoint http://"
            )
    if isinstance(error, httpx.RemoteProtocolError) and endpoint.startswith("http://"):
        return Unreachable(f"{endpoint} does not answer in HTTP: if it speaks TLS, its endpoint is https://")
    return Unreachable(f"{endpoint} cannot be reached: {str(error) or _word(error)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _word(error: BaseException) -> str:
    return type(error).__name__
