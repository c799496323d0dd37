"""A node and an operator that follows a Git server, started as examples/git says, and the person who pushes to it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml

from benchmarks.rig.plane import PROGRAM, manifest
from e2e.rig import is_ready
from toolkeeper.clock import SystemClock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.node.process.runtime import ProcessRuntime
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.testing.git_server import GitRepository, GitServer

LOGIN = "robot:c0rrect-h0rse"
WEBHOOK_SECRET = "the secret of the bell"
PATH = "production"
LOOK_SECONDS = 0.1
ADDRESSES = "10.219.0.0/16"
"""Another range than those of other node agents on this machine."""
BROKEN = "apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: [\n"
Json = Any


def server(name: str = "time", version: str = "1.0.0") -> str:
    """A manifest of a server that needs nothing but Python, and reports that version."""
    spec = {
        "package": {"registry": "pypi", "name": "tiny-mcp", "version": "1.0.0"},
        "transport": "streamable-http",
        "port": 8000,
        "args": ["--port", "{{port}}"],
        "env": [{"name": "TINY_VERSION", "value": version}],
    }
    return yaml.safe_dump(manifest(name, spec), sort_keys=False)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Following:
    """Both programs and the repository. Servers are child processes, or containers that `sweep` removes."""

    folder: Path
    settings: Mapping[str, str]
    """Where pip finds packages."""
    cache: Path
    git: GitServer
    runtime: Literal["process", "docker"] = "process"
    installation: str = field(default_factory=lambda: f"git{secrets.token_hex(4)}")
    _programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node_port, self.webhook_port, self.health_port = free_port(), free_port(), free_port()
        self.repository = GitRepository(self.folder / "work")
        self.bare = self.git.root / "servers.git"
        self.repository.git("clone", "--quiet", "--bare", ".", str(self.bare))
        self.git.login = LOGIN
        (self.folder / "login").write_text(LOGIN + "\n")
        (self.folder / "bell").write_text(WEBHOOK_SECRET + "\n")

    @property
    def url(self) -> str:
        """Of the repository, for operators."""
        return f"{self.git.address}/servers.git"

    @property
    def state(self) -> Path:
        """The operator's."""
        return self.folder / "state"

    # What people do.

    def push(self, files: Mapping[str, str | None] | None = None, *options: str) -> str:
        """Commit these files of the folder of manifests and push. The commit."""
        commit = self.repository.commit({f"{PATH}/{path}": text for path, text in (files or {}).items()})
        self.repository.git("push", "--quiet", *options, str(self.bare), "HEAD:main")
        return commit

    def enroll(self) -> str:
        """The Toolbox's manifest as the node prints it; its token goes where the operator looks for secrets."""
        said = self.run("node", "--state-dir", str(self.folder / "node"), "enroll", "--name", "local",
                        "--endpoint", f"http://127.0.0.1:{self.node_port}")  # fmt: skip
        toolbox = yaml.safe_load(said.stdout)
        place = self.state / self.installation / "secrets" / "default" / toolbox["spec"]["tokenRef"]["name"]
        place.mkdir(parents=True)
        (place / "token").write_text((self.folder / "node" / "token").read_text().splitlines()[0])
        return said.stdout

    async def begin(self, *options: str, **servers: str) -> None:
        """Push a toolbox and these servers, start both programs, and wait until all servers are ready."""
        self.push(
            {
                "toolkeeper.yaml": f"installation: {self.installation}\n",
                "toolbox.yaml": self.enroll(),
                **{f"{name}.yaml": text for name, text in servers.items()},
            }
        )
        self.start_node()
        self.start_operator(*options)
        for name in servers:
            await self.until(is_ready, name)

    async def ring(self, headers: Mapping[str, str], body: bytes = b"{}") -> int:
        """Call the webhook; the status of the answer."""
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{self.webhook_port}/webhook"
            return (await client.post(url, content=body, headers=dict(headers))).status_code

    # What they see.

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of a person in another terminal."""
        environment = self._environment() | {"TOOLKEEPER_STATE_DIR": str(self.state)}
        return subprocess.run(
            [PROGRAM, *arguments], env=environment, check=True, capture_output=True, text=True
        )

    def shown(self, *arguments: str) -> Json:
        """What that command prints as JSON."""
        return json.loads(self.run(*arguments, "-o", "json").stdout)

    async def until(
        self, holds: Callable[[MCPServer], object], name: str = "time", seconds: float = 60.0
    ) -> MCPServer:
        """The server as soon as it is so. Fails with its last words, and those of the programs."""
        last = "it does not exist"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(ToolkeeperError, FileNotFoundError):
                        found = await self._server(name)
                        last = found.status.model_dump_json(indent=1, exclude_defaults=True)
                        if holds(found):
                            return found
                    self._check()
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            log = self.log("operator")[-4000:]
            raise AssertionError(f"{name} did not come to be so: {last}\n{log}") from None

    async def version(self, version: str, name: str = "time") -> MCPServer:
        """The server, once it is ready and reports that version."""
        return await self.until(lambda s: is_ready(s) and s.status.server_version == version, name)

    async def logged(self, *words: str, since: int = 0) -> str:
        """The operator's log from there on, once a line of it has all the words."""
        for _ in range(600):
            text = self.log("operator")[since:]
            if any(all(word in line for word in words) for line in text.splitlines()):
                return text
            self._check()
            await asyncio.sleep(LOOK_SECONDS)
        raise AssertionError(f"{words} was not logged:\n{self.log('operator')[-4000:]}")

    def log(self, program: str) -> str:
        """All that it wrote so far."""
        return (self.folder / f"{program}.log").read_text()

    def commits(self) -> dict[str, Json]:
        """What `get` shows as the source of each server."""
        items = self.shown("get", "servers")["items"]
        return {each["metadata"]["name"]: each["status"]["source"] for each in items}

    def metrics(self) -> str:
        """What Prometheus gets of the operator."""
        return httpx.get(f"http://127.0.0.1:{self.health_port}/metrics", trust_env=False).text

    def commands(self) -> list[bytes]:
        """The command lines, which everybody on the machine can see, of programs that talk to the Git server."""
        lines = [_command_line(each) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return [line for line in lines if self.git.address.encode() in line]

    def kept(self) -> list[bytes]:
        """The content of every file of the operator."""
        return [each.read_bytes() for each in self.state.rglob("*") if each.is_file()]

    # The programs.

    def start_node(self) -> None:
        """As in the README."""
        self._start("node", "--state-dir", str(self.folder / "node"), "--runtime", self.runtime, "--port",
                    str(self.node_port))  # fmt: skip

    def start_operator(self, *options: str) -> None:
        """As in examples/git."""
        self._start(
            "operator", "--store", "directory", "--git", self.url, "--ref", "main", "--path", PATH,
            "--git-credentials", f"file:{self.folder / 'login'}",
            "--state-dir", str(self.state), "--health-address", f"127.0.0.1:{self.health_port}",
            *(options or ("--git-interval", "1")),
        )  # fmt: skip

    def with_webhook(self) -> tuple[str, ...]:
        """Options of an operator that pulls only when it is rung."""
        return ("--git-interval", "86400", "--webhook-address", f"127.0.0.1:{self.webhook_port}",
                "--webhook-secret", f"file:{self.folder / 'bell'}")  # fmt: skip

    def end(self, program: str, by: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal and wait; the exit code."""
        ended = self._programs.pop(program)
        ended.send_signal(by)
        return ended.wait(timeout=30)

    async def stop(self) -> None:
        """End everything, also the servers, which outlive both programs."""
        for program in list(self._programs):
            with suppress(subprocess.TimeoutExpired):
                self.end(program, signal.SIGTERM)
        if self.runtime == "docker":
            return
        runtime = ProcessRuntime(
            self.folder / "node" / "process", clock=SystemClock(), new_id=lambda: secrets.token_hex(16),
            settings=dict(self.settings), cache=self.cache,
        )  # fmt: skip
        await runtime.open()
        for name in (await runtime.look()).containers:
            await runtime.remove(name, 0)
        await runtime.aclose()

    def _start(self, command: str, *arguments: str) -> None:
        with (self.folder / f"{command}.log").open("ab") as log:
            self._programs[command] = subprocess.Popen(
                [PROGRAM, command, *arguments], env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "TOOLKEEPER_NODE_CACHE_DIR": str(self.cache)}
        if self.runtime == "docker":
            own["TOOLKEEPER_NODE_RUN_DIR"] = f"/dev/shm/{self.installation}"
            own["TOOLKEEPER_NODE_DOCKER_ADDRESSES"] = ADDRESSES
        return {**self.settings, **own, "NO_COLOR": "1"}

    def _check(self) -> None:
        ended = [name for name, program in self._programs.items() if program.poll() is not None]
        assert not ended, f"{ended} ended:\n" + "\n".join(self.log(name)[-2000:] for name in ended)

    async def _server(self, name: str) -> MCPServer:
        database = self.state / self.installation / "state.db"
        if not database.exists():
            raise FileNotFoundError(database)
        store = await SqliteStore.open(database)
        try:
            found = await store.get(Key("MCPServer", "default", name))
            assert isinstance(found, MCPServer)
            return found
        finally:
            await store.aclose()


def signed(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    """The header by which GitHub, Gitea and Forgejo prove who they are."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""
