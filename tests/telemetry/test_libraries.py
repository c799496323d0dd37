"""What libraries say reaches the program's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from toolkeeper.telemetry.logs import configured, listen_to_libraries


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The log of a program that listens to its libraries; afterwards nobody does."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    listen_to_libraries(configured(stream=stream, program="operator"))
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def records(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_warning_of_a_library_is_one_record_without_its_secrets(stream: io.StringIO) -> None:
    logging.getLogger("kopf").warning("refused with Authorization: Bearer %s", "sesame-open-123")
    logging.getLogger("kopf").info("all is well")
    (record,) = records(stream)
    assert (record["event"], record["logger"], record["level"]) == ("library", "kopf", "warning")
    assert record["program"] == "operator"
    assert "sesame" not in stream.getvalue()


def test_a_failure_of_a_library_keeps_its_traceback(stream: io.StringIO) -> None:
    try:
        int("odd")
    except ValueError:
        logging.getLogger("asyncio").exception("never retrieved")
    (record,) = records(stream)
    assert record["level"] == "error"
    assert "ValueError: invalid literal" in record["exception"]


def test_a_module_that_knows_no_program_speaks_in_its_log(stream: io.StringIO) -> None:
    structlog.get_logger("store").warning("lease-lost", why="another process holds it")
    (record,) = records(stream)
    assert (record["event"], record["why"], record["program"]) == (
        "lease-lost",
        "another process holds it",
        "operator",
    )
