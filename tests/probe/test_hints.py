"""Which evidence leads to which reason: the whole table, without a server."""

from __future__ import annotations

import pytest

from toolkeeper.probe.evidence import MOST_BYTES, Answer, Evidence, Kind, Trouble
from toolkeeper.probe.hints import MOST_MESSAGE, explain

JSON = "application/json"
RPC_ERROR = Trouble(Kind.RPC_ERROR, "-32603")


def seen(last: Answer | None = None, **more: object) -> Evidence:
    evidence = Evidence(last=last, method="initialize")
    for name, value in more.items():
        setattr(evidence, name, value)
    return evidence


@pytest.mark.parametrize(
    ("reason", "trouble", "evidence", "words"),
    [
        (
            "ConnectionRefused",
            Trouble(Kind.REFUSED, "All connection attempts failed"),
            seen(),
            "cannot connect",
        ),
        ("ConnectionRefused", Trouble(Kind.HUNG_UP), seen(), "closed before initialize"),
        ("HttpError", Trouble(Kind.TLS, "certificate verify failed"), seen(), "TLS: certificate"),
        ("HttpError", Trouble(Kind.UNSENDABLE), seen(), "header values"),
        ("Timeout", Trouble(Kind.TIMEOUT), seen(), "no answer to initialize"),
        ("Timeout", Trouble(Kind.TIMEOUT), Evidence(), "no answer to the first request"),
        ("HostRejected", RPC_ERROR, seen(Answer(421)), "hostHeader"),
        ("HostRejected", RPC_ERROR, seen(Answer(403, "text/plain", names_host=True)), "hostHeader"),
        ("AuthRequired", RPC_ERROR, seen(Answer(401, challenged=True)), "credentials"),
        ("AuthRequired", RPC_ERROR, seen(Answer(401, JSON)), "credentials"),
        ("AuthRequired", RPC_ERROR, seen(Answer(403, challenged=True)), "credentials"),
        ("HttpError", RPC_ERROR, seen(Answer(401, "text/html")), "HTTP 401 to initialize"),
        ("HttpError", RPC_ERROR, seen(Answer(500, "text/plain")), "HTTP 500 to initialize"),
        ("HttpError", RPC_ERROR, seen(Answer(307, location="http://b/x")), "redirects to http://b/x"),
        ("ProtocolViolation", RPC_ERROR, seen(Answer(500, JSON, rpc_error=True)), "JSON-RPC error -32603"),
        ("NotMCP", RPC_ERROR, seen(Answer(404, path="/mcp")), "HTTP 404 at /mcp"),
        ("NotMCP", RPC_ERROR, seen(Answer(405, path="/sse")), "check path and transport"),
        ("NotMCP", RPC_ERROR, seen(Answer(200, "text/html", "/")), "answers text/html at /"),
        ("NotMCP", Trouble(Kind.UNPARSEABLE), seen(Answer(200, JSON, "/")), "no JSON-RPC"),
        ("NotMCP", Trouble(Kind.NOT_HTTP), seen(), "does not speak HTTP"),
        ("ProtocolViolation", Trouble(Kind.SCHEMA, "tools.0.inputSchema: Field required"), seen(), "tools.0"),
        ("ProtocolViolation", Trouble(Kind.TOO_MUCH), seen(), "4 MiB"),
        ("ProtocolViolation", Trouble(Kind.CLOSED), seen(received=MOST_BYTES + 1), "4 MiB"),
        ("ProtocolViolation", Trouble(Kind.CLOSED), seen(), "event stream ended"),
        ("ProtocolViolation", Trouble(Kind.OTHER, "KeyError"), seen(), "KeyError"),
        ("Exited", Trouble(Kind.CLOSED), seen(ended=True), "closed its output"),
        ("Exited", Trouble(Kind.CLOSED), seen(ended=True, noise=3), "closed its output"),
        ("StdoutNoise", Trouble(Kind.TIMEOUT), seen(noise=3), "log to stderr"),
        ("ProtocolViolation", RPC_ERROR, seen(noise=3), "JSON-RPC error -32603"),
    ],
)
def test_the_evidence_names_the_reason(reason: str, trouble: Trouble, evidence: Evidence, words: str) -> None:
    hint = explain([trouble], evidence)
    assert hint.reason == reason
    assert words in hint.message


def test_a_page_that_answers_later_requests_differently_is_still_the_server_it_was() -> None:
    later = seen(Answer(404, path="/mcp"), answered=["initialize"], method="tools/list")
    assert explain([RPC_ERROR], later) == ("HttpError", "HTTP 404 to tools/list")


def test_messages_are_one_bounded_line() -> None:
    hint = explain([Trouble(Kind.SCHEMA, "x\n" * 500)], seen())
    assert len(hint.message) <= MOST_MESSAGE
    assert hint.message.isprintable()
