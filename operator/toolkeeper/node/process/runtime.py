"""The runtime for hosts without Docker, and for trying things out: servers as child processes that outlive the agent.

Isolation is what the operating system gives two processes of one user, and no more; `features` names only what is
enforced. Memory is watched, not limited: limits of address space or process count kill Node.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Literal

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError
from toolkeeper.node import features
from toolkeeper.node.process import launch as process_launch
from toolkeeper.node.process import stream as process_stream
from toolkeeper.node.process import table as process_table
from toolkeeper.node.process.child import Child, is_free
from toolkeeper.node.process.environments import Environment, Environments
from toolkeeper.node.process.folder import Folder, Seal
from toolkeeper.node.process.launch import HOST, Launch
from toolkeeper.node.runtime import ByteStream, Capacity, Seen, Sight, Step, Usage
from toolkeeper.planning.instance import Instance
from toolkeeper.reconcile.ports import InstanceRequest
from toolkeeper.telemetry.logs import Log, Silent

WATCH_SECONDS = 1.0
FOLLOW_SECONDS = 0.2
KEEP_ENVIRONMENTS = 30 * 24 * 3600.0
FEATURES = frozenset(
    (
        features.MEMORY,
        features.PACKAGES,
        features.VOLUMES,
        features.FILES,
        features.STDIO,
        features.LOGS,
        features.STATS,
    )
)


class ProcessRuntime:
    """`runtime.Runtime` with child processes. Everything it keeps is below `root`, mode 0700."""

    name: Literal["docker", "process"] = "process"
    features = FEATURES

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        settings: Mapping[str, str],
        cache: Path | None = None,
        log: Log | None = None,
    ) -> None:
        """`settings`: the environment of pip and npm, and of which servers get the harmless part."""
        self._root = root
        self._clock = clock
        self._new_id = new_id
        self._log = log or Silent()
        self._settings = {key: value for key, value in settings.items() if not key.startswith("TOOLKEEPER_")}
        self._environments = Environments(cache or root / "environments", self._settings)
        self._children: dict[str, Child] = {}
        self._queues: set[asyncio.Queue[str]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._cpu: dict[str, tuple[str, float, float]] = {}
        self._seal: Seal | None = None

    async def open(self) -> None:
        """Adopt what the last agent left."""
        if not process_table.PROC.joinpath("self", "stat").exists():
            raise Refused("the process runtime needs Linux (/proc)", reason="RuntimeUnsupported")
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._root.chmod(0o700)
        self._seal = Seal(self._root / "key")
        for path in sorted(self._servers.glob("*/launch")):
            folder = Folder(path.parent, self._seal)
            try:
                self._add(folder.launch(), folder).adopt()
            except ToolkeeperError as error:
                self._log.warning(
                    "a server's folder cannot be read; it is left alone", path=str(path), because=str(error)
                )
        used = {child.launch.environment for child in self._children.values()}
        self._environments.collect(used, KEEP_ENVIRONMENTS, self._clock.now().timestamp())
        self._watching = asyncio.create_task(self._watch(), name="process watch")

    async def aclose(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        for child in self._children.values():
            await child.leave()

    async def leave(self, installation: str) -> None:
        """Processes need nothing beside themselves."""

    async def capacity(self) -> Capacity:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Capacity(memory, len(os.sched_getaffinity(0)) * 1_000_000_000)

    async def look(self) -> Sight:
        volumes = {
            path.name: tuple(sorted(each.name for each in path.iterdir()))
            for path in self._volumes.glob("*/")
        }
        return Sight({name: child.seen() for name, child in self._children.items()}, 0, volumes)

    async def look_at(self, name: str) -> Seen | None:
        child = self._children.get(name)
        return child.seen() if child is not None else None

    async def changes(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield ""
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def create(self, name: str, installation: str, request: InstanceRequest, step: Step) -> None:
        child = self._children.get(name)
        if child is None:
            package = request.instance.package
            if package is None:
                message = "images need Docker: run the node with --runtime docker, or use `package`"
                raise Refused(message, reason="RuntimeUnsupported")
            if paths := ", ".join(process_launch.unnamed(request.instance)):
                message = (
                    f"without Docker, a volume or file is found only where args or env name its path: {paths}"
                )
                raise Refused(message, reason="RuntimeUnsupported")
            step("building", f"installing {package.name}")
            environment = await self._environments.ensure(package, lambda text: step("building", text))
            step("created", "")
            child = self._make(name, installation, request, environment)
        step("created", "starting")
        await child.start()

    async def start(self, name: str) -> None:
        await self._child(name).start()

    async def stop(self, name: str, drain: int) -> None:
        await self._child(name).stop(drain)

    async def restart(self, name: str) -> None:
        await self._child(name).restart()

    async def remove(self, name: str, drain: int) -> None:
        child = self._children.get(name)
        if child is None:
            return
        await child.stop(drain)
        del self._children[name]
        await asyncio.to_thread(child.folder.remove)
        self._changed(name)

    async def remove_volume(self, installation: str, volume: str) -> None:
        path = self._volumes / installation / volume
        if any(
            child.launch.installation == installation and volume in child.launch.volumes
            for child in self._children.values()
        ):
            raise Conflict(f"{volume} is in use")
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def logs(self, name: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        child = self._child(name)
        lines, offset = child.folder.tail(tail)
        for line in lines:
            yield line
        rest = b""
        while follow:
            chunk, offset = child.folder.read(offset)
            if not chunk:
                if not child.running:
                    return
                await asyncio.sleep(FOLLOW_SECONDS)
                continue
            *whole, rest = (rest + chunk).split(b"\n")
            for line_ in whole:
                yield line_.decode(errors="replace")

    async def usage(self, names: frozenset[str]) -> Mapping[str, Usage]:
        table = await asyncio.to_thread(process_table.sessions)
        now = self._clock.monotonic()
        found = {}
        for name in names & self._children.keys():
            child = self._children[name]
            session = table.get(child.pid or 0)
            if session is not None:
                cores = self._cores(name, child.seen().container.run_id, session.cpu, now)
                found[name] = Usage(cores, session.memory, child.launch.memory, len(session.members))
        return found

    def attach(self, name: str) -> AbstractAsyncContextManager[ByteStream]:
        folder = self._child(name).folder
        return process_stream.attached(folder.input, folder.output)

    async def listening_on_loopback(self, name: str) -> bool | None:
        return False  # the agent shares the server's loopback

    # What it is made of

    @property
    def _servers(self) -> Path:
        return self._root / "servers"

    @property
    def _volumes(self) -> Path:
        return self._root / "volumes"

    def _child(self, name: str) -> Child:
        child = self._children.get(name)
        if child is None:
            raise NotFound(f"there is no {name} here")
        return child

    def _add(self, launch: Launch, folder: Folder) -> Child:
        child = Child(launch, folder, clock=self._clock, new_id=self._new_id, changed=self._changed)
        self._children[launch.name] = child
        return child

    def _make(
        self, name: str, installation: str, request: InstanceRequest, environment: Environment
    ) -> Child:
        assert self._seal is not None, "opened first"
        folder = Folder(self._servers / name, self._seal)
        folder.remove()  # what a broken-off create left
        try:
            launch = self._launch(name, installation, request, environment, folder)
            folder.make(launch)
        except OSError as exc:
            raise Refused(f"its folder cannot be made: {exc}", reason="CreateFailed") from exc
        return self._add(launch, folder)

    def _launch(
        self,
        name: str,
        installation: str,
        request: InstanceRequest,
        environment: Environment,
        folder: Folder,
    ) -> Launch:
        instance = request.instance
        port = self._port(instance)
        fill = process_launch.Filling(port, self._places(installation, request, folder))
        search = os.pathsep.join([*map(str, environment.search), self._settings.get("PATH", os.defpath)])
        program = [fill(word) for word in instance.command] or [str(environment.program.required())]
        found = shutil.which(program[0], path=search)
        if found is None:
            raise Refused(
                f"there is no program {program[0]!r} in {instance_name(instance)}", reason="StartFailed"
            )
        return Launch(
            name=name,
            installation=installation,
            namespace=request.namespace,
            server=request.server,
            hash=request.hash,
            renderer=instance.renderer,
            uid=request.uid,
            id=self._new_id(),
            created=self._clock.now().timestamp(),
            transport=instance.transport,
            port=port,
            path=instance.path,
            host_header=instance.host_header,
            probe_interval=instance.probe_interval,
            image=instance_name(instance),
            argv=(found, *program[1:], *(fill(word) for word in instance.args)),
            memory=instance.limits.memory,
            nofile=instance.hardening.nofile,
            log_size=process_launch.size(instance.hardening.log_max_size),
            log_files=instance.hardening.log_max_files,
            restart=instance.restart,
            volumes=tuple(sorted(mount.volume for mount in instance.volumes)),
            environment=str(environment.path),
            env=process_launch.environment(request, fill, port, search, folder.home, self._settings),
            secrets=tuple(sorted(set(request.secrets.values()))),
        )

    def _places(self, installation: str, request: InstanceRequest, folder: Folder) -> Mapping[str, Path]:
        """Where the paths of volumes and files really are; makes them."""
        places = {}
        for mount in request.instance.volumes:
            places[mount.path] = self._volumes / installation / mount.volume
            places[mount.path].mkdir(parents=True, exist_ok=True, mode=0o700)
        for number, file in enumerate(request.instance.files):
            use = file.secret
            content = process_launch.secret(request, use.name, use.key) if use else file.value or ""
            places[file.path] = folder.place(number, content)
        return places

    def _port(self, instance: Instance) -> int:
        """A free port of the loopback; its own one, for a server that does not say that it can be told."""
        if not instance.port:
            return 0
        taken = {child.launch.port for child in self._children.values()}
        if not process_launch.wants_port(instance) and instance.port not in taken and is_free(instance.port):
            return instance.port
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port = int(probe.getsockname()[1])
            if port not in taken:
                return port

    def _changed(self, name: str) -> None:
        for queue in self._queues:
            queue.put_nowait(name)

    def _cores(self, name: str, run: str, cpu: float, now: float) -> float:
        before, self._cpu[name] = self._cpu.get(name), (run, cpu, now)
        if before is None or before[0] != run or now <= before[2]:
            return 0.0
        return max(0.0, (cpu - before[1]) / (now - before[2]))

    async def _watch(self) -> None:
        """Memory and logs, once a second."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            running = [child for child in self._children.values() if child.running]
            if not running:
                continue
            table = await asyncio.to_thread(process_table.sessions)
            for child in running:
                session = table.get(child.pid or 0)
                child.exceeds(session.memory if session else 0)
                child.folder.rotate(child.launch.log_size, child.launch.log_files)
                with suppress(OSError):
                    process_stream.trim(child.folder.output)


def instance_name(instance: Instance) -> str:
    """What stands where a container has its image."""
    return process_launch.named(instance.package) if instance.package else instance.image
