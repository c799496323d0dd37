"""Whatever anybody sends, the node answers as its own document says, and never with an error of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from generated import examples, whole
from toolkeeper.node.app import make_api
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import TOKEN, node_in_a_thread

pytestmark = pytest.mark.slow  # hundreds of requests to a real server
LOGIN = {"Authorization": f"Bearer {TOKEN}"}


REQUESTS = schemathesis.openapi.from_dict(make_api().openapi())
# Every bound of every field: two thousand requests, drawn up when the tests are collected.
REQUESTS.config.phases.coverage.enabled = whole()
QUIET = list(HealthCheck)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with node_in_a_thread(FakeRuntime()) as url:
        yield url


@REQUESTS.parametrize()
@settings(max_examples=examples(15), deadline=None, derandomize=True, suppress_health_check=QUIET)
def test_every_answer_is_one_that_the_document_declares(case: schemathesis.Case[Any], url: str) -> None:
    # Some rules join several fields, which a schema cannot say: what it allows may still be refused.
    case.call_and_validate(base_url=url, headers=LOGIN, excluded_checks=[positive_data_acceptance])


@REQUESTS.parametrize()
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=QUIET)
def test_nothing_is_told_or_done_without_a_token(case: schemathesis.Case[Any], url: str) -> None:
    response = case.call(base_url=url, headers={"Authorization": "Bearer nobody-knows-this-token"})
    assert response.status_code in ({200, 405} if case.path in {"/healthz", "/readyz"} else {401, 429})
