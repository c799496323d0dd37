"""What controllers and kubelets do on a whole cluster: they run the containers of the chart. Here as child processes,
with the arguments, the environment and the account that the chart gives them, and no other way to the API server."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx

from services import apiserver
from services.helm import helm
from toolkeeper.clock import SystemClock

SOURCE = Path(__file__).parents[2] / "operator"
PROGRAM = [sys.executable, "-c", "from toolkeeper.cli.main import main; main()"]
NUMBERS = itertools.count(1)
"""Of Pods: no two have the same name."""
Json = dict[str, Any]


@dataclass
class Cluster:
    """An API server of the chart's tests, with all rights on it."""

    server: apiserver.ApiServer
    folder: Path

    def client(self, token: str = apiserver.ADMIN) -> httpx.Client:
        """An HTTP client for whoever holds the token."""
        headers = {"Authorization": f"Bearer {token}"}
        trusted = ssl.create_default_context(cafile=self.server.ca)
        return httpx.Client(
            base_url=self.server.url, headers=headers, verify=trusted, trust_env=False, timeout=30
        )

    def get(self, path: str) -> Json | None:
        """The document there; None if there is none."""
        with self.client() as client:
            while (answer := client.get(path)).status_code == 429:  # a definition was changed a moment ago
                time.sleep(0.2)
        if answer.status_code == 404:
            return None
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    def kubectl(self, *arguments: str, given: str = "", check: bool = True) -> str:
        """What kubectl prints."""
        done = apiserver.kubectl(self.server.kubeconfig(), *arguments, given=given)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    def helm(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Helm with all rights."""
        return helm(*arguments, kubeconfig=self.server.kubeconfig(), given=given, folder=self.folder / "helm")

    def token(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount, as a kubelet asks for it."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        with self.client() as client:
            answer = client.post(
                f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", json=asked
            )
        assert answer.is_success, answer.text
        return str(answer.json()["status"]["token"])


@dataclass
class Process:
    """One container that runs."""

    child: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    """Of its probes."""

    def said(self) -> str:
        """Everything that it printed."""
        return self.log.read_text()

    def stop(self) -> None:
        """As a kubelet does: SIGTERM, and SIGKILL for who does not listen."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def probe(self, path: str) -> int:
        """What a probe is answered; 0: nothing."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False).status_code
        except httpx.TransportError:
            return 0


@dataclass
class Hands:
    """Runs the Deployments and Jobs of one namespace, until told to stop."""

    cluster: Cluster
    namespace: str
    deployments: bool = True
    """Whether Deployments get Pods."""
    processes: dict[str, list[Process]] = field(default_factory=dict)
    """Deployment → its Pods."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Uid of a Job → what it printed."""
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def working(self) -> Iterator[Hands]:
        """Run what is to run while the context lasts."""
        thread = threading.Thread(target=self._work, name="kubelet")
        thread.start()
        try:
            yield self
        except AssertionError as failure:
            logs = "\n".join(each.said()[-3000:] for running in self.processes.values() for each in running)
            raise AssertionError(f"{failure}\n{logs}") from failure
        finally:
            self._over.set()
            thread.join(timeout=60)
            for name in list(self.processes):
                self._scale(name, 0, {})

    def _work(self) -> None:
        while not self._over.wait(0.2):
            if self.deployments:
                self._tend_deployments()
            jobs = self.cluster.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs")
            for job in (jobs or {}).get("items", []):
                if job["metadata"]["uid"] not in self.jobs:
                    # Aside: a Deployment must come to its end while a Job waits for that.
                    self.jobs[job["metadata"]["uid"]] = ""
                    threading.Thread(target=self._run_job, args=(job,), name="job").start()

    def _tend_deployments(self) -> None:
        found = self.cluster.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments") or {}
        wanted = {each["metadata"]["name"]: each for each in found.get("items", [])}
        for name in {*wanted, *self.processes}:
            spec: Json = wanted[name]["spec"] if name in wanted else {"replicas": 0, "template": {}}
            self._scale(name, spec["replicas"], spec["template"])

    def _scale(self, name: str, replicas: int, template: Json) -> None:
        running = self.processes.setdefault(name, [])
        while len(running) > replicas:
            running.pop().stop()
        while len(running) < replicas:
            running.append(self.run(template["spec"]))

    def run(self, pod: Json) -> Process:
        """Start the one container of a Pod."""
        [container] = pod["containers"]
        name = f"pod-{next(NUMBERS)}"
        folder = self.cluster.folder / f"{self.namespace}-{name}"
        folder.mkdir()
        token = self.cluster.token(self.namespace, pod["serviceAccountName"])
        kubeconfig = apiserver.write_kubeconfig(
            folder, self.cluster.server.url, self.cluster.server.ca, token
        )
        fields = {"metadata.namespace": self.namespace, "metadata.name": name}
        said = {each["name"]: each.get("value") or fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
                for each in container["env"]}  # fmt: skip
        port = free_port()
        arguments = [each.replace("=:8080", f"=127.0.0.1:{port}") for each in container["args"]]
        own = {"PYTHONPATH": str(SOURCE), "KUBECONFIG": str(kubeconfig), "HOME": str(folder)}
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [*PROGRAM, *arguments], stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **own, **said}
            )  # fmt: skip
        return Process(child, folder / "log", port)

    def _run_job(self, job: Json) -> None:
        process = self.run(job["spec"]["template"]["spec"])
        code = process.child.wait()
        self.jobs[job["metadata"]["uid"]] = process.said()
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{job['metadata']['name']}/status"
        with self.cluster.client() as client:
            answer = client.patch(
                path, json={"status": _ended(code)}, headers={"Content-Type": "application/merge-patch+json"}
            )
        assert answer.is_success, answer.text


def _ended(code: int) -> Json:
    """The status of a Job whose Pod has ended, as its controller writes it."""
    now = SystemClock().now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    types = ("SuccessCriteriaMet", "Complete") if code == 0 else ("FailureTarget", "Failed")
    conditions = [
        {"type": each, "status": "True", "reason": "Ended", "lastProbeTime": now, "lastTransitionTime": now}
        for each in types
    ]
    counts: Json = {"succeeded": 1, "completionTime": now} if code == 0 else {"failed": 1}
    return {"startTime": now, "conditions": conditions, "uncountedTerminatedPods": {}, **counts}


def until(holds: Any, *, within: float = 30.0, what: str = "") -> Any:
    """What `holds()` returns, as soon as that is something: other processes bring it about."""
    clock = SystemClock()
    deadline = clock.monotonic() + within
    while clock.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"it did not come to be so within {within:.0f} s{': ' if what else ''}{what}")


def free_port() -> int:
    """One of the loopback's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
