"""What an error of the API server means, and what it tells people to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolkeeper.errors import ToolkeeperError
from toolkeeper.stores.kubernetes.answers import failure

EVENTS = "/apis/events.k8s.io/v1/namespaces/team/events"


def forbidden(message: str, **details: Any) -> str:
    body = {"kind": "Status", "message": message, "reason": "Forbidden", "details": details}
    return str(failure("POST", EVENTS, 403, json.dumps(body).encode(), None))


def test_who_lacks_a_right_is_told_how_it_is_granted() -> None:
    assert "grant it with a Role" in forbidden('User "x" cannot create resource "events"')


def test_no_right_helps_in_a_namespace_that_ends() -> None:
    cause = {"reason": "NamespaceTerminating", "message": "namespace team is being terminated"}
    said = forbidden("unable to create new content in namespace team", causes=[cause])
    assert "unable to create new content" in said
    assert "grant it" not in said


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500])
@pytest.mark.parametrize("details", [None, [], "no", {"causes": None}, {"causes": "no"}, {"causes": [None]}])
def test_a_proxy_that_answers_strangely_is_an_error_like_any_other(status: int, details: object) -> None:
    body = json.dumps({"kind": "Status", "message": None, "details": details}).encode()

    assert isinstance(failure("PATCH", EVENTS, status, body, None), ToolkeeperError)
