"""What an answer of the API server means for us: the one place where its errors become ours."""

from __future__ import annotations

import json
from typing import Any

from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError, Unreachable

Json = dict[str, Any]

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class TooBusy(Unreachable):
    """The server asks for patience; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, reason="StoreUnreachable")
        self.retry_after = retry_after


class Expired(Unreachable):
    """What we continue from is too old; start again."""


class Unauthenticated(Unreachable):
    """The credentials are not (or no longer) good; read them anew."""


def failure(method: str, path: str, status: int, body: bytes, retry_after: str | None) -> ToolkeeperError:
    """The error for an answer with a status of 400 or more.

    Refused is what only a person can change, by permission or by edit; everything that may pass by itself is
    Unreachable or one of its kinds.
    """
    said = _status(body)
    message = str(said.get("message") or body[:300].decode(errors="replace") or f"HTTP {status}")
    where = f"{method} {path}"
    if status == 401:
        return Unauthenticated(
            f"Kubernetes does not accept our credentials: {message}", reason="StoreUnreachable"
        )
    if status == 403:
        return Refused(_forbidden(method, path, message, said), reason="Forbidden")
    if status == 404:
        return _not_found(said, path, message)
    if status == 409:
        return Conflict(f"{where}: {message}")
    if status == 410:
        return Expired(f"{where}: {message}", reason="StoreUnreachable")
    if status == 429:
        return TooBusy(f"Kubernetes asks for patience: {message}", retry_after=seconds(retry_after, 1.0))
    if status == 422 and method == "PATCH" and not _causes(said):
        # A failed `test` of a JSON patch, the only thing without a cause that is invalid about our patches.
        return Conflict(f"{where}: it is no longer the version that was read")
    if status in (400, 405, 406, 413, 415, 422):
        return Refused(f"Kubernetes refuses {where}: {message}", reason="Refused")
    if retry_after is not None:
        return TooBusy(f"{where} failed: {message}", retry_after=seconds(retry_after, 1.0))
    return Unreachable(f"{where} failed with {status}: {message}", reason="StoreUnreachable")


def seconds(retry_after: str | None, default: float) -> float:
    """The number of a Retry-After header; a date, which Kubernetes never sends, counts as the default."""
    try:
        return max(0.0, float(retry_after or default))
    except ValueError:
        return default


def _status(body: bytes) -> Json:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and said.get("kind") == "Status" else {}


def _details(said: Json) -> Json:
    details = said.get("details")
    return details if isinstance(details, dict) else {}


def _causes(said: Json) -> list[Json]:
    causes = _details(said).get("causes")
    return [each for each in causes if isinstance(each, dict)] if isinstance(causes, list) else []


def _not_found(said: Json, path: str, message: str) -> ToolkeeperError:
    if _details(said).get("name"):
        return NotFound(message)
    return Unreachable(
        f"Kubernetes does not serve {path}: install the CustomResourceDefinitions "
        "(kubectl apply --server-side -f crds/, or the Helm chart)",
        reason="StoreUnreachable",
    )


def _forbidden(method: str, path: str, message: str, said: Json) -> str:
    # The server's own message names user, verb, resource and namespace; it says no more when a webhook refuses.
    verb = VERBS.get(method, method.lower())
    told = f"Kubernetes forbids {verb} on {path}: {message}"
    if any(each.get("reason") == "NamespaceTerminating" for each in _causes(said)):
        return told  # no right of ours would change that
    return f"{told}; grant it with a Role and a RoleBinding"
