"""What can be said about an operator when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkeeper.telemetry.logs import Format, Level, Log, Silent, configured
from toolkeeper.wiring.git import GitOptions


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What can be said about an operator on the command line."""

    allow_prune: bool = False
    health: str | None = None
    """`host:port` of /healthz, /readyz and /metrics."""
    log_format: Format = "console"
    log_level: Level | Literal["silent"] = "info"
    git: GitOptions | None = None
    """What the directory is pulled from."""


def log_of(options: LoopOptions, installation: str = "") -> Log:
    """The log that was asked for, with the installation's name in every record once it is known."""
    if options.log_level == "silent":
        return Silent()
    bound = {"installation": installation} if installation else {}
    return configured(
        format=options.log_format, level=options.log_level, stream=None, program="operator", **bound
    )
