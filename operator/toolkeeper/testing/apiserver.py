"""A Kubernetes API server in memory: enough of one for our store, kopf and kubectl. Held to the real one by our tests.

    with ApiServer().running() as server:
        server.url                      any token is let in

It has the rules that our writes rely on (versions, uids, generations, finalizers, status apart, server-side apply by
field, pruning, defaults and validation by schema) and none of what we do not use. Where it cannot know (CEL rules), it
asks our own models, which say the same.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Self

from aiohttp import web

from toolkeeper.testing.apiserver_discovery import group_documents
from toolkeeper.testing.apiserver_kinds import Json, Kind, Rejected
from toolkeeper.testing.apiserver_objects import Objects
from toolkeeper.testing.apiserver_patches import Patch
from toolkeeper.testing.apiserver_schema import unknown
from toolkeeper.testing.apiserver_selectors import matcher
from toolkeeper.testing.apiserver_serving import serving
from toolkeeper.testing.apiserver_tables import is_table, table

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """One server, with objects of its own."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers: set[asyncio.Event] = set()
        for name in ("default", "kube-system"):
            self.objects.create(
                serving(self.objects, "", "v1", "namespaces"), None, {"metadata": {"name": name}}
            )

    def compact(self) -> None:
        """Forget the past: a watch that continues from it is told 410, as etcd's compaction has it."""
        self.objects.compact()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve on a loopback port, in a thread and an event loop of its own."""
        started: Future[asyncio.Event] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        thread.start()
        stop = started.result(timeout=30)
        try:
            yield self
        finally:
            assert self._loop is not None, "it was started"
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(timeout=30)

    async def _serve(self, started: Future[asyncio.Event]) -> None:
        self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        # Whoever hangs up is no longer watching: otherwise each write would wake all who ever watched.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        started.set_result(stop)
        await stop.wait()
        self._wake()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._routed(request)
        except Rejected as no:
            return web.json_response(no.status(), status=no.code)

    async def _routed(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        if path in ("healthz", "readyz", "livez"):
            return web.Response(text="ok")
        if path == "version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.3-fake"})
        if (document := group_documents(self.objects, path)) is not None:
            return web.json_response(document)
        parts = path.split("/")
        if parts[0] == "api" and len(parts) > 2:
            return await self._resource(request, "", parts[1], parts[2:])
        if parts[0] == "apis" and len(parts) > 3:
            return await self._resource(request, parts[1], parts[2], parts[3:])
        raise Rejected(404, "NotFound", "the server could not find the requested resource")

    async def _resource(
        self, request: web.Request, group: str, version: str, rest: list[str]
    ) -> web.StreamResponse:
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "")[:3]
        kind = serving(self.objects, group, version, plural)
        if subresource not in ("", "status"):
            raise Rejected(404, "NotFound", "the server could not find the requested resource")
        watching = request.query.get("watch") in ("true", "1")
        verb = VERBS.get(request.method) or ("watch" if watching else "get" if name else "list")
        if verb == "watch":
            return await self._watch(request, kind, namespace)
        before = self.objects.version
        document = await self._done(request, kind, namespace, name, subresource)
        if self.objects.version != before:
            self._wake()
        return web.json_response(document, status=201 if verb == "create" else 200)

    async def _done(
        self, request: web.Request, kind: Kind, namespace: str | None, name: str, subresource: str
    ) -> Json:
        body = await request.read()
        query, objects = request.query, self.objects
        manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        dry = query.get("dryRun") == "All"
        if request.method in ("POST", "PUT") and query.get("fieldValidation") == "Strict" and kind.schema:
            _refuse_unknown(kind, _parsed(body))
        match request.method:
            case "GET" if name:
                found = objects.get(kind, namespace, name)
                return table(kind, [found], "") if is_table(request.headers) else kind.shown(found)
            case "GET":
                return self._listed(request, kind, namespace)
            case "POST":
                return objects.create(kind, namespace, _parsed(body), manager=manager, dry=dry)
            case "PUT":
                return objects.replace(
                    kind, namespace, name, _parsed(body), subresource, manager=manager, dry=dry
                )
            case "PATCH":
                patch = Patch(
                    request.content_type, _parsed(body), manager, force=query.get("force") == "true"
                )
                return objects.patch(kind, namespace, name, patch, subresource, dry=dry)
            case "DELETE" if name:
                return objects.delete(kind, namespace, name, dry=dry)
            case "DELETE":
                for each in objects.all(kind, namespace):
                    objects.delete(kind, each["metadata"].get("namespace"), each["metadata"]["name"])
                return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        raise Rejected(405, "MethodNotAllowed", "the server does not allow this method")

    def _listed(self, request: web.Request, kind: Kind, namespace: str | None) -> Json:
        matches = matcher(kind, request.query)
        items = [each for each in self.objects.all(kind, namespace) if matches(each)]
        version, _, after = request.query.get("continue", "").partition("/")
        items = [each for each in items if not after or _place(each) > after]
        limit = int(request.query.get("limit") or 0)
        metadata: Json = {"resourceVersion": version or str(self.objects.version)}
        if limit and len(items) > limit:
            items = items[:limit]
            metadata["continue"] = f"{metadata['resourceVersion']}/{_place(items[-1])}"
        if is_table(request.headers):
            return table(kind, items, metadata["resourceVersion"])
        shown = [kind.shown(each) for each in items]
        return {
            "apiVersion": kind.api_version,
            "kind": f"{kind.name}List",
            "metadata": metadata,
            "items": shown,
        }

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None) -> web.StreamResponse:
        since = request.query.get("resourceVersion", "")
        seconds = float(request.query.get("timeoutSeconds") or 300)
        matches, as_table = matcher(kind, request.query), is_table(request.headers)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        place = int(since) if since not in ("", "0") else None
        with self._watcher() as woken, suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                while True:
                    woken.clear()
                    events, place = self.objects.since(kind, namespace, place)
                    for event in events:
                        if event["type"] == "ERROR" or matches(event["object"]):
                            await answer.write(_line(kind, event, as_table=as_table))
                    if place is None:
                        break
                    await woken.wait()
        return answer

    @contextmanager
    def _watcher(self) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            yield woken
        finally:
            self._watchers.discard(woken)

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()


def _refuse_unknown(kind: Kind, body: Json) -> None:
    content = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    if fields := list(unknown(kind.schema, content)):
        said = ", ".join(f'unknown field "{each}"' for each in fields)
        raise Rejected(400, "BadRequest", f"strict decoding error: {said}")


def _line(kind: Kind, event: Json, *, as_table: bool) -> bytes:
    document = event["object"]
    if event["type"] != "ERROR":
        document = table(kind, [document], "") if as_table else kind.shown(document)
    return json.dumps(event | {"object": document}).encode() + b"\n"


def _place(document: Json) -> str:
    metadata = document["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        pass
    # Server-side apply and a few kubectl commands send YAML.
    import yaml  # noqa: PLC0415 - seldom needed

    return yaml.safe_load(body)
