"""How a failed container is described: the reason, the exit code, its last words. Bounded, and the same each time."""

from __future__ import annotations

from toolkeeper.planning.observed import Container, Handshake
from toolkeeper.resources.mcpserver import ServerMemory

LOG_LINES = 5
LINE_LENGTH = 200

RETRY_SECONDS = {
    "ImagePullFailed": 30.0,
    "CreateFailed": 30.0,
    "StartFailed": 30.0,
    "PortInUse": 30.0,
    "FilesUnavailable": 30.0,
    "NoSpace": 60.0,
}
"""After how long a failed create is tried again where time may help."""
CREATE_FAILURES = frozenset(RETRY_SECONDS) | {
    "ImageNotFound",
    "RegistryDenied",
    "BuildFailed",
    "RuntimeUnsupported",
}
SLOW_RETRY_SECONDS = 300.0
"""For the other reasons: only an edit helps, here or (an image that appears) elsewhere."""


CANDIDATE_RETRIES = 2
"""Repeated creates, where time may help, before a new version has failed."""
ANSWERS = frozenset(
    {
        "Reachable",
        "AuthRequired",
        "CredentialsRefused",
        "ConnectionRefused",
        "Timeout",
        "BoundToLoopback",
        "HostRejected",
        "NotMCP",
        "StdoutNoise",
        "ProtocolViolation",
        "HttpError",
        "Exited",
    }
)
"""What a handshake may say."""


def retry_seconds(container: Container) -> float:
    """How old a failure must be before the create is tried again."""
    return RETRY_SECONDS.get(container.error_reason, SLOW_RETRY_SECONDS)


def gave_up(memory: ServerMemory, container: Container) -> bool:
    """Whether a candidate that could not be created has had its chances: one bad minute of a registry is no verdict."""
    return container.error_reason not in RETRY_SECONDS or memory.retries >= CANDIDATE_RETRIES


def failed_create(container: Container) -> tuple[str, str]:
    """(reason, message) of a container that could not be created."""
    reason = container.error_reason if container.error_reason in CREATE_FAILURES else "CreateFailed"
    return reason, _with_log(container.error or "the toolbox did not say why", container)


def ended(container: Container) -> tuple[str, str]:
    """(reason, message) of a process that ended by itself."""
    reason = "OOMKilled" if container.oom_killed else "Exited"
    return reason, _with_log(_end(container), container)


def crash_loop(container: Container) -> tuple[str, str]:
    """(reason, message) of a process that ends again and again."""
    reason = "OOMKilled" if container.oom_killed else "CrashLoopBackOff"
    return reason, _with_log(_end(container), container)


def silence(container: Container, seconds: float) -> tuple[str, str]:
    """(reason, message) of a process that runs and did not answer the handshake in time."""
    handshake = container.handshake
    if handshake is None:
        return "NoHandshake", f"no handshake within {seconds:g} s of its start"
    told = f": {handshake.message}" if handshake.message else ""
    return answer_reason(handshake), f"no handshake within {seconds:g} s of its start{told}"


def lost_contact(container: Container, threshold: int) -> tuple[str, str]:
    """(reason, message) of a process that answered once and stopped answering."""
    handshake = container.handshake
    if handshake is None:
        return "NoHandshake", "it stopped answering"
    told = f": {handshake.message}" if handshake.message else ""
    return answer_reason(handshake), f"{threshold} probes in a row failed{told}"


def answer_reason(handshake: Handshake) -> str:
    """The reason of a handshake, if it is one we know: a host is untrusted input."""
    return handshake.reason if handshake.reason in ANSWERS else "ProtocolViolation"


def _end(container: Container) -> str:
    if container.oom_killed:
        return "killed for using more memory than spec.resources.memory allows"
    if container.exit_code is None:
        return "the process ended"
    return f"the process ended with exit code {container.exit_code}"


def _with_log(sentence: str, container: Container) -> str:
    lines = [line.strip()[:LINE_LENGTH] for line in container.last_log[-LOG_LINES:]]
    return f"{sentence}; last output: {' | '.join(lines)}" if lines else sentence
