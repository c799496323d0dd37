"""The errors of Toolkeeper, named by what happens next.

    ToolkeeperError
    ├── Invalid          the input is wrong; nothing happens until somebody edits it
    ├── Refused          the other side said no; stalled until the spec (or the permission) changes
    ├── Unreachable      nobody answered; retried with back-off, nothing is concluded from it
    ├── NotReadyYet      it is on its way; looked at again
    ├── Conflict         we acted on an old version; dropped and looked at again
    ├── NotFound         the thing is gone; usually good news
    └── Fenced           a newer leader exists; this process stops acting

Foreign exceptions are translated into these in one place per adapter, with the cause kept.
"""

from __future__ import annotations


class ToolkeeperError(Exception):
    """Any failure that Toolkeeper names. `str(error)` is one sentence that a person can act on."""


class Invalid(ToolkeeperError):
    """The input is wrong: a manifest, a row, an option."""


class Refused(ToolkeeperError):
    """The other side understood and said no. `reason` is one of `toolkeeper.resources.reasons`."""

    def __init__(self, message: str, *, reason: str = "Refused") -> None:
        super().__init__(message)
        self.reason = reason


class Unreachable(ToolkeeperError):
    """No answer, or none that can be believed. Not knowing is not the same as absent."""

    def __init__(self, message: str, *, reason: str = "ToolboxUnreachable") -> None:
        super().__init__(message)
        self.reason = reason


class NotReadyYet(ToolkeeperError):
    """The answer will come; look again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(ToolkeeperError):
    """The version that was acted on is no longer the newest."""


class NotFound(ToolkeeperError):
    """The thing does not exist (any more)."""


class Fenced(ToolkeeperError):
    """A newer leader has claimed the host; this one must stop writing."""
