"""A control plane as somebody with a Docker host runs it: `toolkeeper node` and `toolkeeper operator`, two programs.

The desired state is a directory of manifests, changed by renames, so that a change appears at one moment. Status is
read from the operator's SQLite file by this process: nothing of Toolkeeper's own takes part in measuring it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import yaml

from benchmarks.rig.engine import Engine, EngineError

Json = Any
PROGRAM = os.environ.get("TOOLKEEPER_PROGRAM") or str(Path(sys.executable).parent / "toolkeeper")
API_VERSION = "toolkeeper.dev/v1alpha1"
ADDRESSES = "10.215.0.0/16"
"""Another range than the default: a node agent on the same machine keeps its own."""
LOOK_SECONDS = 0.003
"""Between looks at the status: fine enough for figures of a tenth of a second, coarse enough to leave the CPU alone."""


class Plane:
    """One node agent and one operator, and what they keep, in a folder that goes with them."""

    def __init__(
        self, engine: Engine, installation: str, folder: Path, node: Mapping[str, str] | None = None
    ) -> None:
        """`node` are further settings of the node agent."""
        self.engine, self.installation, self._node = engine, installation, node or {}
        self.folder, self.manifests = folder, folder / "manifests"
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._status: Statuses | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def start(self) -> None:
        """Run both, and wait until the operator has looked at the node."""
        self._staging.mkdir()
        self.manifests.mkdir()
        self._write_toolbox()
        self.run_node()
        self._until(self._node_is_ready, "the node is ready")
        token = (self.folder / "node" / "token").read_text().strip()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "node"},
            "stringData": {"token": token},
        }
        self._write("secret.yaml", secret)
        self.run_operator()
        self._until(self._has_store, "the operator has a store")
        self._until(lambda: self.status.ready("Toolbox", "local"), "the toolbox is ready")

    def run_node(self) -> None:
        """Start the node agent, for the first time or again."""
        self._run("node", [], {
            "TOOLKEEPER_NODE_STATE_DIR": str(self.folder / "node"),
            "TOOLKEEPER_NODE_RUN_DIR": f"/dev/shm/{self.installation}",
            "TOOLKEEPER_NODE_PORT": str(self._port),
            "TOOLKEEPER_NODE_RUNTIME": "docker",
            "TOOLKEEPER_NODE_DOCKER_ADDRESSES": ADDRESSES,
            "TOOLKEEPER_NODE_DOCKER_SOCKET": str(self.engine.socket),
            **self._node,
        })  # fmt: skip

    def run_operator(self) -> None:
        """Start the operator, for the first time or again."""
        self._run("operator", [
            "--store=directory", f"--path={self.manifests}", f"--state-dir={self.folder / 'state'}",
            f"--installation={self.installation}", "--allow-prune", "--log-level=warning",
        ], {})  # fmt: skip

    def end(self, program: str, by: signal.Signals) -> None:
        """Send the signal to that program and wait for its end."""
        self._programs[program].send_signal(by)
        self._programs[program].wait(timeout=30)

    @property
    def status(self) -> Statuses:
        """What the store says."""
        assert self._status is not None, "the plane was not started"
        return self._status

    # What is declared.

    def declare(self, group: str, manifests: Mapping[str, Json]) -> float:
        """Have all of them appear, or change, at one moment: a rename of their directory. Returns when."""
        staged = self._staging / group
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, document in manifests.items():
            (staged / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        began = time.perf_counter()
        staged.rename(self.manifests / group)
        return began

    def edit(self, group: str, name: str, document: Json) -> float:
        """Replace one manifest at one moment. Returns when."""
        draft = self._staging / f"{name}.yaml"
        draft.write_text(yaml.safe_dump(document, sort_keys=False))
        began = time.perf_counter()
        draft.rename(self.manifests / group / f"{name}.yaml")
        return began

    def withdraw(self, group: str) -> None:
        """Take a group away again, and wait until nothing of it is left, here and there."""
        gone = self.manifests / group
        if gone.exists():
            gone.rename(self._staging / f"{group}-gone")
            shutil.rmtree(self._staging / f"{group}-gone")
        label = f"toolkeeper.dev/installation={self.installation}"
        self._until(lambda: not self.status.names(), "the servers are gone from the store")
        self._until(lambda: not self.engine.labelled(label), "the containers are gone from the host")

    # What they cost.

    def memory(self) -> tuple[float, dict[str, float]]:
        """Resident MB of both, a page that both use counted once, and of each."""
        private, shared, each = 0, dict[str, int](), dict[str, float]()
        for name, program in self._programs.items():
            own, files = _resident(Path(f"/proc/{program.pid}/smaps").read_text())
            each[name] = (own + sum(files.values())) / 1024
            private += own
            for file, size in files.items():
                shared[file] = max(size, shared.get(file, 0))
        return (private + sum(shared.values())) / 1024, each

    def cpu(self) -> dict[str, float]:
        """Program → CPU seconds so far."""
        found = {}
        for name, program in self._programs.items():
            fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
            found[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found

    # How it ends.

    def stop(self) -> None:
        """End both programs, and remove what they leave on the host."""
        if self._status is not None:
            self._status.close()
        for program in reversed(self._programs.values()):
            program.send_signal(signal.SIGTERM)
        for program in self._programs.values():
            try:
                program.wait(timeout=15)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        sweep(self.engine, self.installation)

    def trouble(self) -> str:
        """The last words of both programs."""
        logs = [each.read_text(errors="replace")[-2000:] for each in sorted(self.folder.glob("*.log"))]
        return "\n".join(logs)

    @property
    def _staging(self) -> Path:
        return self.folder / "staging"

    @property
    def _database(self) -> Path:
        return self.folder / "state" / self.installation / "state.db"

    def _write_toolbox(self) -> None:
        spec = {
            "endpoint": f"http://127.0.0.1:{self._port}",
            "tokenRef": {"name": "node", "key": "token"},
        }
        metadata = {"name": "local"}
        self._write(
            "toolbox.yaml", {"apiVersion": API_VERSION, "kind": "Toolbox", "metadata": metadata, "spec": spec}
        )

    def _write(self, name: str, document: Json) -> None:
        (self.manifests / name).write_text(yaml.safe_dump(document, sort_keys=False))

    def _run(self, command: str, arguments: Sequence[str], settings: Mapping[str, str]) -> None:
        with (self.folder / f"{command}.log").open("ab") as log:
            self._programs[command] = self._spawn([PROGRAM, command, *arguments], settings, log)

    def _spawn(
        self, command: Sequence[str], settings: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **settings}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def _node_is_ready(self) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/readyz", trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _has_store(self) -> bool:
        with suppress(sqlite3.OperationalError):  # no file yet, or no tables in it
            statuses = Statuses(self._database)
            statuses.names()
            self._status = statuses
        return self._status is not None

    def _until(self, holds: Any, what: str, seconds: float = 60.0) -> None:
        deadline = time.perf_counter() + seconds
        while not holds():
            ended = [name for name, program in self._programs.items() if program.poll() is not None]
            if ended or time.perf_counter() > deadline:
                raise RuntimeError(f"not reached: {what}; ended: {ended}\n{self.trouble()}")
            time.sleep(0.02)


class Statuses:
    """The store's own words, read from its file by a connection that writes nothing."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
        self._version = -1
        self.servers: dict[str, Json] = {}
        """Name → status of each server, as of the last `look`."""

    def look(self) -> dict[str, Json]:
        """What changed since the last look, by name."""
        newest = self._connection.execute("SELECT version FROM counter").fetchone()[0]
        if newest == self._version:
            return {}
        rows = self._connection.execute(
            "SELECT name, status FROM objects WHERE kind = 'MCPServer' AND version > ?", (self._version,)
        ).fetchall()
        self._version = newest
        changed = {name: json.loads(status) for name, status in rows}
        self.servers.update(changed)
        return changed

    def names(self) -> list[str]:
        """The servers that the store knows."""
        rows = self._connection.execute("SELECT name FROM objects WHERE kind = 'MCPServer'").fetchall()
        self.servers = {name: self.servers.get(name, {}) for (name,) in rows}
        return [name for (name,) in rows]

    def last_action(self) -> int:
        """The number of the newest entry in the log of actions."""
        newest = self._connection.execute("SELECT max(id) FROM actions").fetchone()[0]
        return int(newest or 0)

    def accepted(self, name: str, action: str, *, since: int) -> bool:
        """Whether a host has accepted that action for that server after the entry `since`."""
        row = self._connection.execute(
            "SELECT 1 FROM actions WHERE id > ? AND name = ? AND action = ? AND outcome = 'accepted'",
            (since, name, action),
        ).fetchone()
        return row is not None

    def ready(self, kind: str, name: str) -> bool:
        """Whether that object's condition Ready is true."""
        row = self._connection.execute(
            "SELECT status FROM objects WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return row is not None and is_ready(json.loads(row[0]))

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()


def _resident(smaps: str) -> tuple[int, dict[str, int]]:
    """From a process's `smaps`: KB that no other process uses, and file → KB that some other uses as well."""
    own, files, file = 0, dict[str, int](), ""
    for line in smaps.splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            file = rest[-1]
        elif key.startswith("Private_") and key != "Private_Hugetlb:":
            own += int(rest[0])
        elif key in ("Shared_Clean:", "Shared_Dirty:"):
            files[file] = files.get(file, 0) + int(rest[0])
    return own, files


def is_ready(status: Json) -> bool:
    """Whether a status says Ready=True."""
    return bool(condition(status, "Ready").get("status") == "True")


def condition(status: Json, type: str) -> Json:
    """One condition of a status; empty if it has none of that type."""
    return next((each for each in status.get("conditions", ()) if each["type"] == type), {})


def manifest(name: str, spec: Mapping[str, Json]) -> Json:
    """An MCPServer on the plane's toolbox."""
    metadata = {"name": name}
    return {
        "apiVersion": API_VERSION,
        "kind": "MCPServer",
        "metadata": metadata,
        "spec": {"toolboxRef": "local", **spec},
    }


def sweep(engine: Engine, installation: str) -> None:
    """Remove whatever an installation, or a run of a benchmark that broke off, left on the host."""
    for label in (f"toolkeeper.dev/installation={installation}", f"toolkeeper.benchmark={installation}"):
        with suppress(EngineError):
            engine.sweep(label, f"tk_{installation}_")


@contextmanager
def running(engine: Engine, installation: str, node: Mapping[str, str] | None = None) -> Iterator[Plane]:
    """A plane for as long as the context lasts; nothing of it stays."""
    sweep(engine, installation)
    with tempfile.TemporaryDirectory(prefix="toolkeeper-benchmark-") as folder:
        plane = Plane(engine, installation, Path(folder), node)
        try:
            plane.start()
            yield plane
        finally:
            plane.stop()
            shutil.rmtree(f"/dev/shm/{installation}", ignore_errors=True)
