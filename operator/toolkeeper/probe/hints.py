"""From the evidence of a failed probe to one named reason and one sentence. Pure; the order of checks is the policy.

Messages are stable from probe to probe (no times, no counts that move, no text chosen by the server), because a
message that changes is a status that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from toolkeeper.probe.evidence import MOST_BYTES, Answer, Evidence, Kind, Shown, Trouble
from toolkeeper.probe.lint import printable

MOST_MESSAGE = 300
_LIMIT = f"{MOST_BYTES // 2**20} MiB in all, 1 MiB in one event of the sse transport"


class Hint(NamedTuple):
    """A reason of `Handshake.reason`, and a sentence that a person can act on."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Failure:
    troubles: Sequence[Trouble]
    evidence: Evidence

    def trouble(self, *kinds: Kind) -> Trouble | None:
        return next((trouble for kind in kinds for trouble in self.troubles if trouble.kind is kind), None)

    @property
    def last(self) -> Answer | None:
        return self.evidence.last

    @property
    def asked(self) -> str:
        return self.evidence.method or "the first request"


def explain(troubles: Sequence[Trouble], evidence: Evidence) -> Hint:
    """The first check that recognises the failure names it."""
    failure = _Failure(troubles, evidence)
    hint = next(hint for check in _CHECKS if (hint := check(failure)) is not None)
    return Hint(hint.reason, printable(hint.message, MOST_MESSAGE))


def _too_much(failure: _Failure) -> Hint | None:
    if failure.evidence.received > MOST_BYTES or failure.trouble(Kind.TOO_MUCH):
        return Hint(
            "ProtocolViolation", f"{failure.asked}: the server sends more than a probe reads ({_LIMIT})"
        )
    return None


def _host_rejected(failure: _Failure) -> Hint | None:
    answer = failure.last
    if answer and (answer.status == 421 or (answer.status == 403 and answer.names_host)):
        return Hint(
            "HostRejected",
            f"HTTP {answer.status}: the server does not accept this Host header; set hostHeader to one it allows",
        )
    return None


_ASKED: Mapping[Shown, tuple[str, str]] = {
    "none": ("AuthRequired", "the server is up and asks for credentials"),
    "shown": ("CredentialsRefused", "the server is up and refuses the credential of health.credentialsRef"),
    "unusable": (
        "CredentialsRefused",
        "the server is up; no header can carry the characters of the credential of health.credentialsRef",
    ),
}


def _auth_required(failure: _Failure) -> Hint | None:
    answer, credential = failure.last, failure.evidence.credential
    if answer is None or answer.status not in (401, 403):
        return None
    # Where a credential is shown, somebody knows that the server asks for one: then its 401 alone says enough.
    if not (answer.challenged or _is_json(answer) or (answer.status == 401 and credential != "none")):
        return None
    reason, told = _ASKED[credential]
    return Hint(reason, f"HTTP {answer.status}: {told}")


def _not_connected(failure: _Failure) -> Hint | None:
    if failure.trouble(Kind.UNSENDABLE):
        return Hint("HttpError", "the request cannot be sent: check the URL and the header values")
    if trouble := failure.trouble(Kind.TLS):
        return Hint("HttpError", f"TLS: {trouble.detail}")
    if trouble := failure.trouble(Kind.REFUSED):
        return Hint("ConnectionRefused", f"cannot connect: {trouble.detail}")
    return None


def _not_http(failure: _Failure) -> Hint | None:
    if failure.trouble(Kind.NOT_HTTP):
        return Hint("NotMCP", "whatever listens there does not speak HTTP; check port and transport")
    return None


def _no_endpoint(failure: _Failure) -> Hint | None:
    answer = failure.last
    if (
        answer
        and answer.status in (404, 405, 406, 415, 501)
        and not answer.rpc_error
        and not failure.evidence.answered
    ):
        return Hint(
            "NotMCP",
            f"HTTP {answer.status} at {answer.path}: no MCP endpoint there; check path and transport",
        )
    return None


def _other_status(failure: _Failure) -> Hint | None:
    answer = failure.last
    if answer is None or answer.rpc_error or answer.status < 300:
        return None
    if answer.location:
        return Hint(
            "HttpError", f"HTTP {answer.status}: redirects to {answer.location}, which is not followed"
        )
    return Hint("HttpError", f"HTTP {answer.status} to {failure.asked}")


def _other_content(failure: _Failure) -> Hint | None:
    answer = failure.last
    if failure.evidence.answered or answer is None or answer.rpc_error:
        return None
    if answer.status == 200 and not _is_json(answer) and answer.content_type != "text/event-stream":
        kind = answer.content_type or "a body without a content type"
        return Hint("NotMCP", f"answers {kind} at {answer.path} where MCP answers JSON or an event stream")
    if failure.trouble(Kind.UNPARSEABLE):
        return Hint("NotMCP", f"answers JSON at {answer.path}, but no JSON-RPC")
    return None


def _violation(failure: _Failure) -> Hint | None:
    if trouble := failure.trouble(Kind.VIOLATION, Kind.SCHEMA):
        return Hint("ProtocolViolation", f"{failure.asked}: {trouble.detail}")
    return None


def _unparseable(failure: _Failure) -> Hint | None:
    if failure.trouble(Kind.UNPARSEABLE):
        return Hint("ProtocolViolation", f"{failure.asked}: the answer is no JSON-RPC message")
    return None


def _noisy(failure: _Failure) -> Hint | None:
    if failure.evidence.noise and not failure.trouble(Kind.RPC_ERROR):
        return Hint(
            "StdoutNoise",
            "the server prints other text than JSON-RPC to stdout and never answered; log to stderr",
        )
    return None


def _exited(failure: _Failure) -> Hint | None:
    if failure.evidence.ended:
        return Hint("Exited", f"the server closed its output before it answered {failure.asked}")
    return None


def _hung_up(failure: _Failure) -> Hint | None:
    if failure.trouble(Kind.HUNG_UP):
        return Hint("ConnectionRefused", f"the connection was closed before {failure.asked} was answered")
    if failure.trouble(Kind.CLOSED):
        return Hint("ProtocolViolation", f"the event stream ended before {failure.asked} was answered")
    return None


def _timed_out(failure: _Failure) -> Hint | None:
    if failure.trouble(Kind.TIMEOUT):
        return Hint("Timeout", f"no answer to {failure.asked} in time")
    return None


def _rpc_error(failure: _Failure) -> Hint | None:
    if trouble := failure.trouble(Kind.RPC_ERROR):
        return Hint("ProtocolViolation", f"{failure.asked} was refused with JSON-RPC error {trouble.detail}")
    return None


def _anything_else(failure: _Failure) -> Hint:
    detail = failure.troubles[0].detail if failure.troubles else "nothing is known"
    return Hint("ProtocolViolation", f"{failure.asked} failed: {detail}")


_CHECKS: tuple[Callable[[_Failure], Hint | None], ...] = (
    _too_much,
    _host_rejected,
    _auth_required,
    _violation,
    _not_connected,
    _not_http,
    _no_endpoint,
    _other_status,
    _other_content,
    _unparseable,
    _exited,
    _noisy,
    _hung_up,
    _timed_out,
    _rpc_error,
    _anything_else,
)


def _is_json(answer: Answer) -> bool:
    return answer.content_type == "application/json" or answer.content_type.endswith("+json")
