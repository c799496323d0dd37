"""Structured logs: JSON lines for machines, short lines for people, and no secret in either."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, Protocol, TextIO

import structlog

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

HIDDEN = "[hidden]"
SECRET_KEYS = re.compile(
    r"secret|token|password|passwd|authorization|credential|cookie|api_?key|private", re.IGNORECASE
)
"""Names under which a value is never logged, whatever it is."""
SECRET_TEXT = re.compile(
    r"(?P<bearer>(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}|(?P<login>://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.IGNORECASE,
)
"""What looks like a credential inside a text: an Authorization value, a password in a URL."""


class Log(Protocol):
    """What the programs need of a logger; structlog's fit, and so does a list in a test."""

    def debug(self, event: str, /, **keys: Any) -> Any: ...

    def info(self, event: str, /, **keys: Any) -> Any: ...

    def warning(self, event: str, /, **keys: Any) -> Any: ...

    def error(self, event: str, /, **keys: Any) -> Any: ...


class Silent:
    """A log that nobody reads."""

    def debug(self, event: str, /, **keys: Any) -> None:
        pass

    info = warning = error = debug


def configured(
    *, format: Format = "json", level: Level = "info", stream: TextIO | None = None, **bound: str
) -> Log:
    """A logger for one program; `bound` keys (program, installation) are in every record."""
    stream = stream or sys.stderr
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if format == "json"
        # A plain traceback: the pretty one shows local variables, secrets among them, and takes seconds to draw.
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        tell_exceptions,
        hide_secrets,
        render,
    ]
    logger: Log = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    ).bind(**bound)
    return logger


def listen_to_libraries(log: Log) -> None:
    """What libraries say from warnings on, and what our modules say that know no logger of a program, goes there."""
    structlog.configure(
        processors=[_handing_to(log)], logger_factory=lambda *_: None, cache_logger_on_first_use=False
    )
    root = logging.getLogger()
    root.handlers = [_Handing(log)]
    root.setLevel(logging.WARNING)


class _Handing(logging.Handler):
    """Hands the records of the standard library's logging to a log of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        said = {"exc_info": record.exc_info[1]} if record.exc_info and record.exc_info[1] else {}
        say("library", logger=record.name, message=record.getMessage(), **said)


def _handing_to(log: Log) -> structlog.typing.Processor:
    def hand(logger: object, method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event = str(record.pop("event", ""))
        getattr(log, method, log.info)(event, **record)
        raise structlog.DropEvent

    return hand


def hide_secrets(logger: object, method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: values under telling names, and credentials inside texts, become `[hidden]`."""
    for name, value in record.items():
        record[name] = _without_secrets(name, value)
    return record


def tell_exceptions(
    logger: object, method: str, record: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: an exception becomes its traceback, so that no later step prints it unseen."""
    error = record.pop("exc_info", None)
    if isinstance(error, BaseException):
        record["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return record


def _without_secrets(name: str, value: object) -> object:
    if SECRET_KEYS.search(name):
        return HIDDEN
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, Mapping):
        return {str(key): _without_secrets(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets("", each) for each in value]
    return value if isinstance(value, int | float | None) else hidden(str(value))


def hidden(text: str) -> str:
    """The text without what looks like a credential."""
    return SECRET_TEXT.sub(lambda match: f"{match['bearer'] or match['login']}{HIDDEN}", text)
