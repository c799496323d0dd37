"""Every answer that is not a success has one shape: `{"error": {"reason": …, "message": …}}`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from toolkeeper.errors import (
    Conflict,
    Fenced,
    Invalid,
    NotFound,
    NotReadyYet,
    Refused,
    ToolkeeperError,
    Unreachable,
)

STATUSES: Mapping[type[ToolkeeperError], tuple[int, str]] = {
    Fenced: (409, "Fenced"),
    Conflict: (409, "Conflict"),
    NotFound: (404, "NotFound"),
    Invalid: (422, "Invalid"),
    Refused: (422, ""),
    Unreachable: (503, "RuntimeUnavailable"),
    NotReadyYet: (503, "NotReadyYet"),
}
"""Error → status and reason (empty: the error's own)."""

_WORDS = {400: "Invalid", 404: "NoSuchPath", 405: "MethodNotAllowed"}
MOST_ERRORS = 5
"""Of one body; whoever sends a hundred wrong fields needs no list of them."""


def fault(status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer."""
    content = {"error": {"reason": reason[:128], "message": message[:4096]}}
    return JSONResponse(content, status, headers=dict(headers or {}))


def trace(error: BaseException) -> str:
    """Where an unforeseen error came from, for the log. Without the values of variables: they may be secret."""
    return "".join(traceback.format_exception(error))


def install(app: FastAPI) -> None:
    """Teach the app this shape, for its own errors and for ours."""
    app.add_exception_handler(ToolkeeperError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ToolkeeperError)
    status, reason = STATUSES.get(type(exc), (500, "Unexpected"))
    return fault(status, reason or getattr(exc, "reason", "Refused"), str(exc))


async def _invalid(request: Request, exc: Exception) -> Response:
    """Names the fields, never their values: they may be secret."""
    assert isinstance(exc, RequestValidationError)
    lines = [
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
        for error in exc.errors()[:MOST_ERRORS]
    ]
    return fault(422, "Invalid", "; ".join(lines))


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    reason = _WORDS.get(exc.status_code, "Refused")
    headers = exc.headers
    if exc.status_code == 405:
        headers = {"Allow": ", ".join(_methods(request))}
    return fault(exc.status_code, reason, str(exc.detail), headers)


def _methods(request: Request) -> list[str]:
    """All methods of that path; a route by itself knows only its own."""
    document: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    route = request.scope.get("route")
    return sorted(method.upper() for method in document.get(getattr(route, "path", ""), {}))


async def _unexpected(request: Request, exc: Exception) -> Response:
    return fault(
        500, "Unexpected", "the node met an error of its own; its log says more under the request's id"
    )
