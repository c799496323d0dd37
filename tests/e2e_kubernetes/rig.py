"""A cluster, a host and the programs of Toolkeeper between them, as people run them: real kubectl, real containers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import yaml
from docker.models.containers import Container

from benchmarks.rig.plane import PROGRAM
from e2e.rig import TINY
from services import apiserver

Json = dict[str, Any]
Holds = Callable[[Json], object]
ADDRESSES = "10.217.0.0/16"
"""Another range than that of other node agents which may run on this machine."""
LOOK_SECONDS = 0.05


@dataclass
class Program:
    """One process of ours, and what it wrote."""

    command: Sequence[str]
    settings: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Run it, for the first time or again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, *self.command], env={**os.environ, **self.settings},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """Kill it, freeze it, let it go on."""
        self.process.send_signal(number)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.runs:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass
class OperatorProgram(Program):
    """An operator, and its HTTP port."""

    port: int = 0

    def asked(self, path: str) -> tuple[int, str]:
        """Status and text of `/healthz`, `/readyz` or `/metrics`; (0, why) when nothing answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=5)
        except httpx.TransportError as exc:
            return 0, str(exc)
        return answer.status_code, answer.text

    def figure(self, name: str, **labels: str) -> float:
        """The sum of all samples of that metric that carry these labels."""
        status, text = self.asked("/metrics")
        assert status == 200, text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return sum(
            float(value)
            for series, _, value in rows
            if series.partition("{")[0] == name and all(each in series for each in wanted)
        )

    @property
    def leads(self) -> bool:
        """Whether it says that it leads."""
        status, _ = self.asked("/healthz")
        return status == 200 and self.figure("toolkeeper_leader") == 1


@dataclass
class Rig:
    """One namespace of a cluster, one host, and any number of operators."""

    kubernetes: apiserver.ApiServer
    engine: docker.DockerClient
    folder: Path
    namespace: str
    installation: str
    operators: list[OperatorProgram] = field(default_factory=list)
    node: Program = field(init=False)
    node_port: int = field(init=False)

    # The host.

    def start_node(self) -> None:
        """Run the host agent on a port of its own."""
        self.node_port = free_port()
        settings = {
            "TOOLKEEPER_NODE_STATE_DIR": str(self.folder / "node"),
            "TOOLKEEPER_NODE_RUN_DIR": f"/dev/shm/{self.installation}",
            "TOOLKEEPER_NODE_PORT": str(self.node_port),
            "TOOLKEEPER_NODE_RUNTIME": "docker",
            "TOOLKEEPER_NODE_DOCKER_ADDRESSES": ADDRESSES,
        }
        self.node = Program(["node"], settings, self.folder / "node.log")
        self.node.start()

    def node_is_ready(self) -> bool:
        """Whether the host agent answers."""
        with suppress(httpx.TransportError):
            answer = httpx.get(f"http://127.0.0.1:{self.node_port}/readyz", trust_env=False)
            return answer.status_code == 200
        return False

    def enrol(self, name: str) -> None:
        """Follow `toolkeeper node enroll`: apply the manifest that it prints, run the command that it prints."""
        endpoint = f"http://127.0.0.1:{self.node_port}"
        done = subprocess.run(
            [PROGRAM, "node", "enroll", f"--endpoint={endpoint}", f"--name={name}", f"--namespace={self.namespace}",
             "--output=json"],
            env={**os.environ, **self.node.settings}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        printed = json.loads(done.stdout)
        kubectl = f"{apiserver.kubectl_program()} --kubeconfig={self.kubernetes.kubeconfig()}"
        # The host of the node is this machine, so nobody logs in to it.
        command = re.sub(r"^ssh \S+ sudo ", "", printed["command"]).replace("kubectl ", f"{kubectl} ")
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)
        applied = apiserver.kubectl(
            self.kubernetes.kubeconfig(), "apply", "-f", "-", given=printed["manifest"]
        )
        assert applied.returncode == 0, applied.stderr

    def containers(self, name: str) -> list[Container]:
        """The server's containers on the host."""
        labels = [f"toolkeeper.dev/installation={self.installation}", f"toolkeeper.dev/server={name}"]
        return self.engine.containers.list(all=True, ignore_removed=True, filters={"label": labels})

    # The operators.

    def operator(
        self, identity: str, *, kubeconfig: Path | None = None, arguments: Sequence[str] = ()
    ) -> OperatorProgram:
        """A running operator of this namespace."""
        port = free_port()
        command = [
            "operator", "--store=kubernetes", f"--kubeconfig={kubeconfig or self.kubernetes.kubeconfig()}",
            f"--namespace={self.namespace}", f"--operator-namespace={self.namespace}",
            f"--identity={identity}", f"--health-address=127.0.0.1:{port}", "--log-format=json", *arguments,
        ]  # fmt: skip
        started = OperatorProgram(command, {}, self.folder / f"{identity}.log", port)
        started.start()
        self.operators.append(started)
        return started

    async def leader(self, identity: str = "one", **options: Any) -> OperatorProgram:
        """An operator that leads."""
        started = self.operator(identity, **options)
        await self.until(lambda: started.leads, f"{identity} leads")
        return started

    # What people do.

    async def kubectl(self, *arguments: str, given: object = "", check: bool = True) -> str:
        """What kubectl prints, in this namespace."""
        text = given if isinstance(given, str) else yaml.safe_dump_all(_listed(given))
        done = await asyncio.to_thread(
            apiserver.kubectl, self.kubernetes.kubeconfig(), f"--namespace={self.namespace}", *arguments, given=text
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    async def apply(self, *documents: Json) -> str:
        """`kubectl apply` these."""
        return await self.kubectl("apply", "-f", "-", given=list(documents))

    async def patch(self, name: str, **spec: Any) -> None:
        """What `kubectl edit` sends."""
        await self.kubectl("patch", "mcpserver", name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    async def get(self, name: str, kind: str = "mcpserver") -> Json | None:
        """The object as the cluster shows it."""
        said = await self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Json | None = json.loads(said) if said.strip() else None
        return found

    def exists(self, kind: str, name: str) -> bool:
        """Whether the cluster has it; to be asked in a thread."""
        arguments = (f"--namespace={self.namespace}", "get", kind, name, "--ignore-not-found", "-o", "name")
        return bool(apiserver.kubectl(self.kubernetes.kubeconfig(), *arguments).stdout)

    # What is waited for.

    async def until(self, holds: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Return as soon as `holds()`; it is asked in a thread. Fails with the programs' last words otherwise."""
        try:
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - other programs tell nobody
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {what}\n{self.trouble()}") from None

    async def server(self, name: str, holds: Holds, what: str, seconds: float = 60.0) -> Json:
        """The server, as soon as it is so."""
        last: Json | None = None
        try:
            async with asyncio.timeout(seconds):
                while last is None or not holds(last):
                    await asyncio.sleep(LOOK_SECONDS)
                    last = await self.get(name)
        except TimeoutError:
            status = json.dumps((last or {}).get("status"), indent=1)
            raise AssertionError(f"not within {seconds} s: {what}\n{status}\n{self.trouble()}") from None
        return last

    async def ready(self, name: str, seconds: float = 60.0) -> Json:
        """The server, once it is ready in its newest version."""
        return await self.server(name, is_ready, f"{name} is ready", seconds)

    async def gone(self, name: str, seconds: float = 60.0) -> None:
        """Return once neither the object nor a container of it is left."""
        await self.until(lambda: not self.containers(name), f"the containers of {name} are gone", seconds)
        await self.kubectl("wait", "--for=delete", f"mcpserver/{name}", f"--timeout={seconds:.0f}s")

    def trouble(self) -> str:
        """The last words of all programs."""
        return "\n".join(f"--- {each.log.name}\n{each.said[-3000:]}" for each in (self.node, *self.operators))

    # How it ends.

    def stop_operators(self) -> None:
        """End them, and forget them."""
        for each in self.operators:
            each.stop()
        self.operators.clear()


def server(name: str, **spec: Any) -> Json:
    """An MCPServer of the tiny image on the host `here`."""
    return {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": "MCPServer",
        "metadata": {"name": name},
        "spec": {"toolboxRef": "here", "image": TINY, **spec},
    }


def connection(name: str, to: str, **spec: Any) -> Json:
    """An AgentConnection of the agent `bot` to that server."""
    return {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": "AgentConnection",
        "metadata": {"name": name},
        "spec": {"agent": "bot", "serverRef": to, "tools": {"allow": ["*"]}, **spec},
    }


def env(**values: str) -> list[Json]:
    """Environment variables as a spec lists them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def condition(found: Json, type: str) -> Json:
    """One condition; empty if there is none of that type."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type), {})


def is_ready(found: Json) -> bool:
    """Ready, and not only in an older version."""
    status = found.get("status", {})
    return bool(
        condition(found, "Ready").get("status") == "True"
        and status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("runningHash") == status.get("wantedHash")
        and condition(found, "Reconciling").get("status") != "True"
    )


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listed(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]
