"""A container in memory: how an image behaves, what became of one container of it, and how a host reports that."""

from __future__ import annotations

from dataclasses import dataclass

from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Container, DockerState, Handshake, Live
from toolkeeper.reconcile.ports import InstanceRequest, ProbeCredential
from toolkeeper.testing.builders import make_handshake

WORK: frozenset[DockerState] = frozenset({"pending", "pulling", "building", "failed"})
"""States without a container: the agent's own notes, lost when it restarts."""


@dataclass(frozen=True, slots=True)
class FakeImage:
    """How containers of one image behave. Seconds throughout."""

    pull: float = 1.0
    start: float = 0.2
    handshake: float | None = 0.5
    """From start to the first answer; None = it never answers."""
    exits_after: float | None = None
    """It ends by itself so long after each start, with `exit_code`."""
    exit_code: int = 1
    missing: bool = False
    """The registry does not know it."""
    tools: tuple[str, ...] = ("echo",)
    demands: str = ""
    """The credential without which it only asks for one."""

    def answers(self, credential: ProbeCredential | None) -> Handshake:
        """What a probe that shows this credential is told."""
        version = "" if credential is None else credential.version
        if not self.demands or (credential is not None and credential.value == self.demands):
            return make_handshake(tools=self.tools, credential=version)
        reason = "CredentialsRefused" if credential is not None else "AuthRequired"
        return Handshake(ok=True, reason=reason, message="HTTP 401: it says no", credential=version)


GOOD = FakeImage()


@dataclass(slots=True)
class FakeContainer:
    """One container, or the agent's work on one."""

    name: str
    installation: str
    request: InstanceRequest
    state: DockerState
    since: float
    container_id: str = ""
    run: int = 0
    restarts: int = 0
    crashes: int = 0
    exit_code: int | None = None
    error_reason: str = ""
    error: str = ""
    live: Live | None = None
    handshake: Handshake | None = None
    probe_failures: int = 0
    stopped_by_hand: bool = False
    credential: ProbeCredential | None = None
    """What the agent's probes show; in its memory only."""
    life: int = 0
    """Counts changes of state; a timer of an earlier life does nothing."""

    @property
    def instance(self) -> Instance:
        return self.request.instance

    @property
    def source(self) -> str:
        """The image's name, or the package that it is built from."""
        package = self.instance.package
        return f"{package.registry}:{package.name}@{package.version}" if package else self.instance.image

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of those that it mounts."""
        return tuple(each.volume for each in self.instance.volumes)

    @property
    def run_id(self) -> str:
        """Another one after each start; empty before the first."""
        return f"run-{self.run}" if self.run else ""

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, server)."""
        return self.request.namespace, self.request.server

    @property
    def serving(self) -> bool:
        """Whether an agent that calls it now gets an answer."""
        return self.state == "running" and self.handshake is not None and self.handshake.ok

    def report(self, toolbox: str, now: float) -> Container:
        """What the agent of that toolbox says about it."""
        request, made = self.request, self.state not in WORK
        http = self.instance.transport != "stdio"
        return Container(
            name=self.name,
            installation=self.installation,
            namespace=request.namespace,
            server=request.server,
            hash=request.hash,
            renderer=self.instance.renderer,
            state=self.state,
            container_id=self.container_id,
            run_id=self.run_id if made else "",
            image=self.source,
            image_digest="sha256:" + "0" * 64 if made else "",
            age=now - self.since,
            restarts=self.restarts,
            exit_code=self.exit_code,
            progress="pulling" if self.state == "pulling" else "",
            error_reason=self.error_reason,
            error=self.error,
            last_log=("the last words",) if self.exit_code else (),
            address=f"http://{toolbox}/{self.name}" if http and made else "",
            live=self.live if made else None,
            handshake=self.handshake,
            probe_failures=self.probe_failures,
            volumes=self.volumes,
            probe_credential="" if self.credential is None else self.credential.version,
        )
