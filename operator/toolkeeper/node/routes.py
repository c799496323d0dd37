"""The native API, version 1. Each route reads its input, asks the node, and says what may go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError

from toolkeeper.dtma.wire import (
    CONTAINER_PATTERN,
    EPOCH_HEADER,
    INSTALLATION_HEADER,
    LONGEST_WAIT,
    VOLUME_PATTERN,
    Accepted,
    ClaimBody,
    ClaimGranted,
    CreateBody,
    CredentialBody,
    ErrorBody,
    NodeInfo,
    ToolDefinitions,
    UsageList,
)
from toolkeeper.errors import Invalid, NotFound, Unreachable
from toolkeeper.node.node import Node
from toolkeeper.node.requirements import check
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Claim
from toolkeeper.resources.meta import DNS_LABEL

Body = TypeVar("Body", bound=BaseModel)

_MEANINGS = {
    400: "The body is not JSON.",
    401: "No valid bearer token.",
    404: "There is nothing of that name.",
    408: "The body did not arrive in time.",
    409: "Fenced: a newer leader has claimed the installation. Conflict: a precondition does not hold (any more).",
    413: "The body is too long.",
    422: "The request is not understood or not possible here; the message names the field.",
    429: "Too many requests without a valid token.",
    503: "The runtime does not answer: nothing is known.",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status]}
        for status in (401, 422, 429, *statuses)
    }


_READ = _errors()
_WRITE = _errors(404, 408, 409, 413, 503)
_BODY = _errors(400, 408, 409, 413, 503)


async def _the_node(request: Request) -> Node:
    # A coroutine, like the next: what is none would be called in a thread, once for each request.
    node: Node = request.state.node
    return node


async def _the_claim(
    installation: Annotated[
        str,
        Header(alias=INSTALLATION_HEADER, pattern=DNS_LABEL, max_length=63, description="Who writes."),
    ],
    epoch: Annotated[
        int, Header(alias=EPOCH_HEADER, ge=1, le=2**53, description="The epoch it was granted.")
    ],
) -> Claim:
    return Claim(installation, epoch)


async def _only_known_queries(request: Request) -> None:
    """A misspelt parameter is refused like a misspelt field; ignoring it would be a silent default."""
    if not request.query_params:
        return
    path = request.app.openapi()["paths"][request.scope["route"].path]
    declared = path[request.method.lower()].get("parameters", ())
    stray = request.query_params.keys() - {each["name"] for each in declared if each["in"] == "query"}
    if stray:
        raise Invalid(f"there is no query parameter {', '.join(sorted(map(repr, stray)))}")


async def _claim_body(request: Request, body: ClaimBody) -> ClaimBody:
    return _exactly(type(body), await request.body())


async def _create_body(request: Request, body: CreateBody) -> CreateBody:
    return _exactly(type(body), await request.body())


async def _credential_body(request: Request, body: CredentialBody) -> CredentialBody:
    return _exactly(type(body), await request.body())


def _exactly(model: type[Body], content: bytes) -> Body:
    """The body again, read strictly as JSON: `true` is no number and `"8000"` no port."""
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in errors]) from exc


ANode = Annotated[Node, Depends(_the_node)]
AClaim = Annotated[Claim, Depends(_the_claim)]
AName = Annotated[str, Path(pattern=CONTAINER_PATTERN, max_length=210, description="The container's name.")]
AnInstallation = Annotated[str, Query(pattern=DNS_LABEL, max_length=63)]
AContainerId = Annotated[str, Query(max_length=128, description="Only this very container.")]
ADrain = Annotated[int, Query(ge=0, le=600, description="Seconds it may take to end.")]

health = APIRouter(tags=["health"])

api = APIRouter(
    tags=["v1"],
    dependencies=[
        Security(HTTPBearer(auto_error=False, description="The node's token.")),
        Depends(_only_known_queries),
    ],
)


@health.get("/healthz", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def healthz() -> Response:
    """The agent lives."""
    return Response("ok\n", media_type="text/plain")


@health.get(
    "/readyz",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}},
        503: {"model": ErrorBody, "description": _MEANINGS[503]},
    },
)
async def readyz(node: ANode) -> Response:
    """The agent lives and its runtime answers."""
    if not node.ready:
        raise Unreachable("the runtime does not answer (yet)", reason="RuntimeUnavailable")
    return Response("ok\n", media_type="text/plain")


@api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **_READ})
async def metrics(node: ANode) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(await node.metrics_text(), media_type="text/plain; version=0.0.4")


@api.get("/v1/info", responses=_READ)
async def info(node: ANode) -> NodeInfo:
    """What this node is and can do."""
    return node.info()


@api.get("/v1/state", response_model=Snapshot, responses=_READ)
async def state(
    node: ANode,
    installation: AnInstallation,
    since: Annotated[str, Query(max_length=128, description="The last revision seen.")] = "",
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for another one.")
    ] = 0.0,
) -> Response:
    """Everything of an installation; with `since` and `wait`, as soon as its revision is another."""
    return Response(await node.state(installation, since, wait), media_type="application/json")


@api.post("/v1/claim", responses=_BODY)
async def claim(node: ANode, body: Annotated[ClaimBody, Depends(_claim_body)]) -> ClaimGranted:
    """Become the only writer for an installation: its epoch goes from the expected one to the next."""
    return ClaimGranted(epoch=node.claim(body.installation, body.expected_epoch))


@api.put("/v1/instances/{name}", status_code=202, responses=_BODY)
async def create(
    node: ANode, claim: AClaim, name: AName, body: Annotated[CreateBody, Depends(_create_body)]
) -> Accepted:
    """Make the container exist and run. Idempotent; its progress shows in `state`."""
    request = body.request()
    check(request.instance)
    node.create(claim, name, request)
    return Accepted()


@api.delete("/v1/instances/{name}", status_code=202, responses=_WRITE)
async def remove(
    node: ANode,
    claim: AClaim,
    name: AName,
    container_id: AContainerId = "",
    drain: ADrain = 10,
) -> Accepted:
    """Cancel what is being done with the container, then remove it."""
    node.remove(claim, name, container_id, drain)
    return Accepted()


@api.post("/v1/instances/{name}/start", status_code=202, responses=_WRITE)
async def start(node: ANode, claim: AClaim, name: AName) -> Accepted:
    """Start a stopped container."""
    node.start(claim, name)
    return Accepted()


@api.post("/v1/instances/{name}/stop", status_code=202, responses=_WRITE)
async def stop(node: ANode, claim: AClaim, name: AName, drain: ADrain = 10) -> Accepted:
    """Stop a container and keep it."""
    node.stop(claim, name, drain)
    return Accepted()


@api.post("/v1/instances/{name}/restart", status_code=202, responses=_WRITE)
async def restart(
    node: ANode,
    claim: AClaim,
    name: AName,
    run_id: Annotated[str, Query(max_length=128, description="Only while this is its run.")] = "",
) -> Accepted:
    """Restart a container."""
    node.restart(claim, name, run_id)
    return Accepted()


@api.put("/v1/instances/{name}/probe-credential", status_code=202, responses=_BODY | _WRITE)
async def give_credential(
    node: ANode,
    claim: AClaim,
    name: AName,
    body: Annotated[CredentialBody, Depends(_credential_body)],
    container_id: AContainerId = "",
) -> Accepted:
    """Show it in every probe of an HTTP server from now on. It is kept in memory only, and `state` has its version."""
    node.lend(claim, name, container_id, body.credential())
    return Accepted()


@api.delete("/v1/instances/{name}/probe-credential", status_code=202, responses=_WRITE)
async def take_credential(
    node: ANode, claim: AClaim, name: AName, container_id: AContainerId = ""
) -> Accepted:
    """Probe without a credential from now on."""
    node.lend(claim, name, container_id, None)
    return Accepted()


@api.get(
    "/v1/instances/{name}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}, "description": "Lines of text."}, **_errors(404, 503)},
)
async def logs(
    node: ANode,
    name: AName,
    tail: Annotated[int, Query(ge=0, le=10000, description="Lines of the past.")] = 100,
    follow: Annotated[
        bool, Query(description="Go on until the container ends or the caller leaves.")
    ] = False,
) -> Response:
    """The container's log lines, secrets masked."""
    lines = _encoded(node.logs(name, tail=tail, follow=follow))
    return StreamingResponse(lines, media_type="text/plain; charset=utf-8")


@api.get("/v1/instances/{name}/tools", responses=_errors(404))
async def tools(node: ANode, name: AName) -> ToolDefinitions:
    """The tool definitions that the server listed last, untouched."""
    return node.tools(name)


@api.get("/v1/stats", responses=_errors(503))
async def stats(node: ANode, installation: AnInstallation) -> UsageList:
    """What the running containers of an installation use now."""
    return await node.usage(installation)


@api.delete("/v1/volumes/{name}", status_code=202, responses=_WRITE)
async def remove_volume(
    node: ANode, claim: AClaim, name: Annotated[str, Path(pattern=VOLUME_PATTERN, max_length=255)]
) -> Accepted:
    """Remove a volume of the installation. Absent is success."""
    await node.remove_volume(claim, name)
    return Accepted()


async def _encoded(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    try:
        async for line in lines:
            yield line.encode() + b"\n"
    except (NotFound, Unreachable):
        return  # the answer has begun; its end is all that can be said now
