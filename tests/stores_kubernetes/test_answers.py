"""What an error of the API server means, and what it tells people to do."""

from __future__ import annotations

import json
from typing import Any

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
