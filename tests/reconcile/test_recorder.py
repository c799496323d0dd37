"""What people are told of what happens in the loop."""

from __future__ import annotations

from typing import Any

from toolkeeper.reconcile.inventory import Difference
from toolkeeper.reconcile.recorder import Recorder, Telemetry
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.testing.builders import make_server
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time


class Warnings:
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def debug(self, event: str, /, **keys: Any) -> None:
        """Of no interest here."""

    info = error = debug

    def warning(self, event: str, /, **keys: Any) -> None:
        self.said.append({"event": event, **keys})


def deployed(name: str, installation: str) -> MCPServer:
    return make_server(name, status=MCPServerStatus(container=f"tk_{installation}_default_{name}_0123abcd"))


@in_virtual_time
async def test_a_second_control_plane_is_warned_of_once() -> None:
    log = Warnings()
    recorder = Recorder(Telemetry(log=log), VirtualClock(), installation="ours")
    recorder.noticed(Difference((make_server("new"), deployed("time", "ours"))))
    assert log.said == []
    for _ in range(2):
        recorder.noticed(Difference((deployed("time", "theirs"), deployed("git", "theirs"))))
    [said] = log.said
    assert (said["installation_of_the_other"], said["name"]) == ("theirs", "time")
