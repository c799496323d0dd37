"""The API says no in one shape, with a reason, and never by accident."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from toolkeeper.dtma.wire import EPOCH_HEADER, INSTALLATION_HEADER, REQUEST_LIMIT
from toolkeeper.node.app import make_api
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import INSTALLATION, TOKEN, Stand, container_of, standing

pytestmark = pytest.mark.anyio
TIME = container_of("time")
PATH = f"/v1/instances/{TIME}"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing(FakeRuntime()) as stand:
        yield stand


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx.AsyncClient]:
    """A stranger with the right token, who has claimed the installation."""
    transport = httpx.ASGITransport(stand.app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        claim = await stand.client.claim(INSTALLATION, 0)
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        client.headers[INSTALLATION_HEADER] = INSTALLATION
        client.headers[EPOCH_HEADER] = str(claim.epoch)
        yield client


def body(**changes: Any) -> dict[str, Any]:
    """A body that is accepted, with changes; a change to `...` leaves the field out."""
    instance = {"renderer": 1, "transport": "streamable-http", "image": "tiny", "port": 8000, "path": "/mcp"}
    good: dict[str, Any] = {
        "namespace": "default",
        "server": "time",
        "hash": f"v1:sha256:{'a' * 64}",
        "instance": instance,
    }
    for key, value in changes.items():
        place, _, field = key.rpartition("__")
        target = instance if place else good
        target[field] = value
        if value is ...:
            del target[field]
    return good


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, reason, message; fails when the answer has any other shape."""
    content = response.json()
    assert set(content) == {"error"}
    assert set(content["error"]) == {"reason", "message"}
    return response.status_code, content["error"]["reason"], content["error"]["message"]


BAD_BODIES = {
    "no namespace": (body(namespace=...), "namespace"),
    "a namespace that is no DNS label": (body(namespace="Big_Name"), "namespace"),
    "an unknown field": (body(color="red"), "color"),
    "an unknown field of the instance": (body(instance__color="red"), "color"),
    "a number for a name": (body(server=7), "server"),
    "a hash of another shape": (body(hash="abc"), "hash"),
    "no source": (body(instance__image=...), "image"),
    "two sources": (
        body(instance__package={"registry": "pypi", "name": "x", "version": "1"}),
        "exactly one",
    ),
    "HTTP without a port": (body(instance__port=...), "port"),
    "stdio with a port": (body(instance__transport="stdio"), "port"),
    "a port beyond the last": (body(instance__port=70000), "port"),
    "an unknown transport": (body(instance__transport="carrier-pigeon"), "transport"),
    "a secret that did not come along": (
        body(instance__env=[{"name": "X", "secret": {"name": "s", "key": "k", "version": "1"}}]),
        "s/k",
    ),
    "a text where a number belongs": (body(instance__limits={"memory": "lots"}), "memory"),
    "a package that is an option": (
        body(
            instance__image=...,
            instance__package={"registry": "pypi", "name": "--index-url=http://evil", "version": "1"},
        ),
        "not the name",
    ),
    "a companion that is a path": (
        body(
            instance__image=...,
            instance__package={"registry": "npm", "name": "x", "version": "1.0.0", "companions": ["../x"]},
        ),
        "not a package",
    ),
    "a server that its name is not of": (body(server="other"), "name"),
    "a hash that its name is not of": (body(hash=f"v1:sha256:{'b' * 64}"), "eight digits"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_refused_by_the_name_of_its_field(case: str, http: httpx.AsyncClient) -> None:
    content, field = BAD_BODIES[case]
    status, reason, message = error_of(await http.put(PATH, json=content))
    assert (status, reason) == (422, "Invalid")
    assert field in message


async def test_the_good_body_is_accepted(http: httpx.AsyncClient) -> None:
    response = await http.put(PATH, json=body())
    assert (response.status_code, response.json()) == (202, {"accepted": True})


async def test_a_refused_body_never_repeats_its_values(http: httpx.AsyncClient) -> None:
    content = body(secrets={"s/k": 7}, registry_password=["hunter22"])
    _, _, message = error_of(await http.put(PATH, json=content))
    assert "hunter22" not in message


NOT_JSON = {
    "nothing": b"",
    "half an object": b'{"namespace": ',
    "not UTF-8": b'{"namespace": "\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "very deep": b"[" * 100_000,
    "not a number": b'{"expected_epoch": NaN}',
}


@pytest.mark.parametrize("case", NOT_JSON)
async def test_what_is_not_json_is_refused(case: str, http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    status, reason, _ = error_of(await http.put(PATH, content=NOT_JSON[case], headers=headers))
    assert status in {400, 422}
    assert reason == "Invalid"


BAD_REQUESTS = {
    "a name of nobody's": ("PUT", "/v1/instances/nginx", {}, 422),
    "a name that climbs": ("DELETE", "/v1/instances/..%2f..%2fetc", {}, 404),
    "a drain of a year": ("DELETE", f"{PATH}?drain=31536000", {}, 422),
    "a negative drain": ("POST", f"{PATH}/stop?drain=-1", {}, 422),
    "no epoch": ("POST", f"{PATH}/start", {EPOCH_HEADER: ""}, 422),
    "an epoch that is a word": ("POST", f"{PATH}/start", {EPOCH_HEADER: "one"}, 422),
    "an epoch of zero": ("POST", f"{PATH}/start", {EPOCH_HEADER: "0"}, 422),
    "an installation with a slash": ("POST", f"{PATH}/start", {INSTALLATION_HEADER: "a/b"}, 422),
    "an older epoch": ("POST", f"{PATH}/start", {INSTALLATION_HEADER: "another"}, 409),
    "no installation to look at": ("GET", "/v1/state", {}, 422),
    "a wait of an hour": ("GET", "/v1/state?installation=test&wait=3600", {}, 422),
    "a wait that is not a number": ("GET", "/v1/state?installation=test&wait=nan", {}, 422),
    "a tail of a million": ("GET", f"{PATH}/logs?tail=1000000", {}, 422),
    "logs of nothing": ("GET", f"{PATH}/logs", {}, 404),
    "tools of nothing": ("GET", f"{PATH}/tools", {}, 404),
    "a misspelt parameter": ("DELETE", f"{PATH}?drian=5", {}, 422),
    "a path that does not exist": ("GET", "/v2/state", {}, 404),
    "a verb that does not exist": ("PATCH", PATH, {}, 405),
    "a slash too many": ("GET", "/v1/state/", {}, 404),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_request_is_refused(case: str, http: httpx.AsyncClient) -> None:
    method, path, headers, expected = BAD_REQUESTS[case]
    content = json.dumps(body()).encode() if method == "PUT" else None
    status, reason, _ = error_of(await http.request(method, path, headers=headers, content=content))
    assert status == expected
    assert reason


async def test_a_path_that_does_not_exist_is_never_taken_for_an_absent_container(
    http: httpx.AsyncClient,
) -> None:
    _, reason, _ = error_of(await http.get("/v2/state"))
    assert reason == "NoSuchPath"
    _, reason, _ = error_of(await http.delete(PATH))
    assert reason == "NotFound"


async def test_a_body_may_not_be_endless(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    assert error_of(await http.put(PATH, content=b" " * (REQUEST_LIMIT + 1)))[:2] == (413, "TooLarge")
    assert error_of(await http.put(PATH, content=endless()))[:2] == (413, "TooLarge")


WRITES = (
    ("POST", "/v1/claim"),
    ("PUT", PATH),
    ("DELETE", PATH),
    ("POST", f"{PATH}/start"),
    ("POST", f"{PATH}/stop"),
    ("POST", f"{PATH}/restart"),
    ("DELETE", "/v1/volumes/x"),
)
READS = (
    "/v1/info",
    "/v1/state",
    "/v1/stats",
    f"{PATH}/logs",
    f"{PATH}/tools",
    "/metrics",
    "/openapi.json",
    "/none",
)
WRONG = (
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong-token-of-some-length",
    f"Basic {TOKEN}",
    TOKEN,
    f"Bearer {TOKEN}x",
)


@pytest.mark.parametrize("wrong", WRONG)
async def test_nothing_is_told_or_done_without_a_token(wrong: str, stand: Stand) -> None:
    for number, (method, path) in enumerate([*WRITES, *(("GET", path) for path in READS)]):
        transport = httpx.ASGITransport(stand.app, client=(f"192.0.2.{number}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            response = await client.request(method, path, headers={"Authorization": wrong})
            assert error_of(response)[:2] == (401, "AuthenticationFailed")
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_health_needs_no_token(stand: Stand) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(stand.app), base_url="http://node") as client:
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.get("/readyz")).text == "ok\n"


async def test_a_node_without_its_runtime_lives_but_is_not_ready() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        runtime.go_down()
        await stand.until(lambda now: not now.runtime_ok)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(stand.app), base_url="http://node"
        ) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert error_of(await client.get("/readyz"))[:2] == (503, "RuntimeUnavailable")


async def test_guessing_is_slowed_down_but_the_right_token_always_passes(stand: Stand) -> None:
    transport = httpx.ASGITransport(stand.app, client=("192.0.2.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        answers = [await client.get("/v1/info", headers={"Authorization": f"Bearer {n}"}) for n in range(20)]
        assert [each.status_code for each in answers] == [401] * 10 + [429] * 10
        assert int(answers[-1].headers["Retry-After"]) >= 1
        right = await client.get("/v1/info", headers={"Authorization": f"Bearer {TOKEN}"})
        assert right.status_code == 200


async def test_every_answer_has_an_id_of_ours(http: httpx.AsyncClient) -> None:
    first = await http.get("/v1/info", headers={"X-Request-Id": "forged"})
    second = await http.get("/v1/none")
    assert first.headers["X-Request-Id"] != "forged"
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]


async def test_an_error_of_our_own_tells_no_details(
    stand: Stand, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    make_broken(stand)
    status, reason, message = error_of(await http.get(f"/v1/stats?installation={INSTALLATION}"))
    assert (status, reason) == (500, "Unexpected")
    assert "ZeroDivisionError" not in message


def make_broken(stand: Stand) -> None:
    """A runtime with a bug."""

    class Broken(FakeRuntime):
        async def usage(self, names: frozenset[str]) -> Any:
            return dict.fromkeys(["any"], 1 / 0)

    stand.node.runtime = Broken()


def test_the_document_declares_what_may_go_wrong() -> None:
    paths = make_api().openapi()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            if path not in {"/healthz", "/readyz"}:
                assert {"401", "422", "429"} <= statuses, (method, path)
            if method in {"put", "delete"}:
                assert {"404", "409", "413", "503"} <= statuses | {"404"}, (method, path)
            assert operation["summary"], (method, path)


async def test_metrics_tell_of_requests_containers_and_their_use(
    stand: Stand, http: httpx.AsyncClient
) -> None:
    await http.put(PATH, json=body())
    await stand.until(lambda now: now.containers and now.containers[0].state == "running")
    text = (await http.get("/metrics")).text
    assert 'toolkeeper_node_instances{state="running"} 1.0' in text
    assert 'toolkeeper_node_api_requests_total{operation="create",status="202"} 1.0' in text
    assert f'toolkeeper_node_container_memory_bytes{{container="{TIME}"}}' in text
    assert "toolkeeper_node_runtime_up 1.0" in text
