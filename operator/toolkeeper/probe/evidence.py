"""What one probe saw on the wire, kept because the SDK's errors forget it.

`Answer` and `Trouble` are plain values, so that `hints` can be asked about every failure without one happening.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Shown = Literal["none", "shown", "unusable"]
"""Whether a credential was shown; unusable: there is one that no header can carry."""

MOST_BYTES = 4 * 1024 * 1024
"""All that one probe reads from a server: definitions, noise and all."""


class TooMuch(Exception):
    """The server sent more than a probe accepts."""


class Violation(Exception):
    """The server broke the protocol in a way that the SDK does not mind. The text goes into the message."""


class Kind(StrEnum):
    """What stopped the conversation, in words of no library."""

    TOO_MUCH = "too much"
    VIOLATION = "violation"
    SCHEMA = "schema"
    REFUSED = "refused"
    UNSENDABLE = "unsendable"
    TLS = "tls"
    HUNG_UP = "hung up"
    NOT_HTTP = "not http"
    RPC_ERROR = "rpc error"
    UNPARSEABLE = "unparseable"
    CLOSED = "closed"
    TIMEOUT = "timeout"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failure. `detail` is safe to show: never text from the server's answers, never a header."""

    kind: Kind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of one HTTP response, and of its body only what was concluded from it."""

    status: int
    content_type: str = ""
    path: str = ""
    challenged: bool = False
    """It names a scheme by which to show a credential."""
    rpc_error: bool = False
    """The body is a JSON-RPC error: whoever answered speaks it."""
    names_host: bool = False
    """The body of a refusal speaks of the Host or Origin header."""
    location: str = ""
    """Where a redirect points, without userinfo, query or fragment."""


@dataclass(slots=True)
class Evidence:
    """Filled in while a probe runs, read when it has failed."""

    last: Answer | None = None
    """The answer to the newest HTTP request; None while it is awaited."""
    received: int = 0
    noise: int = 0
    """Lines of stdout that were no JSON-RPC message."""
    ended: bool = False
    """The byte stream reached its end."""
    method: str = ""
    """The last method asked."""
    answered: list[str] = field(default_factory=list)
    """Methods that were answered with a result."""
    credential: Shown = "none"

    def take(self, size: int) -> None:
        """Count received bytes; raises TooMuch past the limit."""
        self.received += size
        if self.received > MOST_BYTES:
            raise TooMuch
