from __future__ import annotations

import io
import json
from typing import Any

import pytest
from freezegun import freeze_time

from toolkeeper.telemetry.logs import HIDDEN, Format, Level, configured


def logged(event: str, *, level: Level = "info", format: Format = "json", **keys: Any) -> str:
    stream = io.StringIO()
    configured(format=format, level=level, stream=stream, program="operator").info(event, **keys)
    return stream.getvalue()


@freeze_time("2026-01-01T12:00:00Z")
def test_a_record_is_one_json_object_with_time_level_and_resource() -> None:
    record = json.loads(logged("action", namespace="default", name="time"))
    assert record == {
        "event": "action",
        "level": "info",
        "timestamp": "2026-01-01T12:00:00Z",
        "program": "operator",
        "namespace": "default",
        "name": "time",
    }


def test_what_is_below_the_level_is_not_written() -> None:
    assert logged("action", level="warning") == ""


@pytest.mark.parametrize("key", ["token", "password", "Authorization", "api_key", "client_secret"])
def test_a_value_with_a_telling_name_is_hidden(key: str) -> None:
    assert "sesame" not in logged("x", **dict[str, Any]({key: "sesame"}))
    assert "sesame" not in logged("x", nested={"deeper": {key: "sesame"}})


@pytest.mark.parametrize(
    "text",
    [
        "401 for Authorization: Bearer sesame-open-123",
        "cannot reach https://user:sesame-open-123@registry/v2",
    ],
)
@pytest.mark.parametrize("format", ["json", "console"])
def test_a_credential_inside_a_text_is_hidden(text: str, format: Format) -> None:
    for line in (
        logged(text, format=format),
        logged("x", format=format, detail=[text], error=ValueError(text)),
    ):
        assert "sesame" not in line
        assert HIDDEN in line


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_where_and_hides_credentials(format: Format) -> None:
    try:
        raise ValueError("Bearer sesame-open-123")  # noqa: TRY301 - a real traceback is wanted
    except ValueError as error:
        line = logged("broke", format=format, exc_info=error)
    assert "test_logs.py" in line
    assert "sesame" not in line


def test_people_read_one_line() -> None:
    line = logged("action", format="console", name="time")
    assert line.count("\n") == 1
    assert "name=time" in line
