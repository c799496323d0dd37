"""Packages of PyPI and npm, made into images on this host.

Not `docker build`: without BuildKit it cannot lend a build a certificate, a proxy or an index and take it back. A
container of the base image runs `build_package.sh` with these in memory, and what it leaves becomes the image, with a
config that is written whole.
"""

from __future__ import annotations

import json
import shutil
import socket
from asyncio import Lock, Semaphore
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from toolkeeper.errors import NotFound, Refused
from toolkeeper.node.docker import package_recipe as recipe
from toolkeeper.node.docker.engine import Engine, reason_of
from toolkeeper.node.docker.images import Credentials, ImageFacts, Images
from toolkeeper.node.docker.marks import ROLE
from toolkeeper.node.docker.streams import follow
from toolkeeper.node.runtime import Step
from toolkeeper.planning.instance import PackageSource

Json = dict[str, Any]

SECONDS: Final = 1800
AT_ONCE: Final = 2
MEMORY: Final = 4 * 1024**3
PIDS: Final = 2048
CAPABILITIES: Final = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"]
"""What dpkg needs; installing a package runs code of strangers."""
SHOWN_LINES: Final = 15


@dataclass
class Builds:
    """The builds of this node. Raises what `Engine` and `Images` raise, and Refused(BuildFailed)."""

    engine: Engine
    images: Images
    folder: Path
    """Where the settings of running builds lie: on a tmpfs, and under the same path for the daemon."""
    bases: Mapping[str, tuple[str, ...]]
    """Registry → base images, best first; the last one is pulled when none is there."""
    environment: Mapping[str, str]
    """The node's own environment: certificates, proxies, indexes."""
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))
    _slots: Semaphore = field(default_factory=lambda: Semaphore(AT_ONCE))

    async def ensure(
        self, package: PackageSource, network: Callable[[], Awaitable[str]], step: Step
    ) -> tuple[str, ImageFacts]:
        """The image of that package: its name, and what is in it. Built once, however many ask at the same time.

        `network` names a network with a way out; it is asked for only when something is built.
        """
        base = await self.base(package.registry, step)
        tag = recipe.tag(package, base.id)
        async with self._locks[tag]:
            if (found := await self.images.find(tag)) is None:
                if self._slots.locked():
                    step("building", "waiting for other builds")
                async with self._slots:
                    await self._build(package, base, tag, network, step)
                self.images.forget(tag)
                found = await self.images.find(tag)
        if found is None:
            raise Refused(f"the image {tag} was built and is gone again", reason="BuildFailed")
        return tag, found

    async def base(self, registry: str, step: Step) -> ImageFacts:
        """The base image for packages of that registry, pulled when none is there."""
        found = await self._base_here(registry)
        return found or await self.images.ensure(
            self.bases[registry][-1], "IfNotPresent", Credentials(), step
        )

    async def base_offered(self, registry: str, seconds: int) -> None:
        """Make sure that there is a base image for it, or that one could be pulled. Raises as a pull would."""
        if await self._base_here(registry) is None:
            await self.images.offered(self.bases[registry][-1], seconds)

    async def _base_here(self, registry: str) -> ImageFacts | None:
        for name in self.bases[registry]:
            if (found := await self.images.find(name)) is not None:
                return found
        return None

    async def _build(
        self,
        package: PackageSource,
        base: ImageFacts,
        tag: str,
        network: Callable[[], Awaitable[str]],
        step: Step,
    ) -> None:
        variables, beside = recipe.settings(self.environment, Path.exists)
        folder = self.folder / tag.rpartition(":")[2]
        step("building", "preparing")
        body = _body(package, base.id, folder, beside, await self._network(variables, network))
        self._lay_out(folder, variables, beside)
        container = ""
        try:
            container = (await self.engine.call(self.engine.api.create_container_from_config, body))["Id"]
            with anyio.fail_after(SECONDS):
                scripts = await self._run(package, container, variables, step)
            step("building", "saving the image")
            config = recipe.image_config(package, base.environment, scripts)
            repository, _, name = tag.partition(":")
            made: Json = await self.engine.wait(
                self.engine.api.commit, container, repository=repository, tag=name, conf=config
            )
            self.images.record.brought(made["Id"], tag)
        except TimeoutError as exc:
            raise Refused(
                f"building {package.name} took more than {SECONDS} s", reason="BuildFailed"
            ) from exc
        finally:
            with anyio.CancelScope(shield=True):
                shutil.rmtree(folder, ignore_errors=True)
                await self._remove(container)

    async def _run(
        self, package: PackageSource, container: str, variables: Mapping[str, str], step: Step
    ) -> list[str]:
        """Run the build. Returns the names of the programs that the package has."""
        await self.engine.call(self.engine.api.start, container)
        last: deque[str] = deque(maxlen=SHOWN_LINES)
        scripts: list[str] = []
        async with aclosing(follow(self.engine, container, stdout=True)) as lines:
            async for line in lines:
                if line.startswith("::step "):
                    step("building", line.removeprefix("::step "))
                elif line.startswith("::scripts "):
                    scripts = [str(each) for each in json.loads(line.removeprefix("::scripts "))]
                elif line.strip():
                    last.append(line)
        ended = await self.engine.wait(self.engine.api.wait, container)
        if ended["StatusCode"] != 0:
            said = recipe.masked("\n".join(last), variables)
            text = f"building {package.name} failed with exit code {ended['StatusCode']}:\n{said}"
            raise Refused(text, reason=reason_of(text, "BuildFailed"))
        return scripts

    async def _network(self, variables: Mapping[str, str], network: Callable[[], Awaitable[str]]) -> str:
        """The host's own network only where a proxy or an index is on the host itself: ours does not lead there."""
        local = await anyio.to_thread.run_sync(lambda: any(map(_is_here, recipe.hosts(variables))))
        return "host" if local else await network()

    def _lay_out(self, folder: Path, variables: Mapping[str, str], beside: Mapping[str, Path]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("build_package.sh"), folder)
        (folder / "settings").write_text(recipe.script(variables))
        (folder / "apt.conf").write_text(recipe.apt_config(bundle="ca.pem" in beside))
        for name, source in beside.items():
            if source.is_dir():
                (folder / name).mkdir(exist_ok=True)
            else:
                (folder / name).write_bytes(source.read_bytes())

    async def _remove(self, container: str) -> None:
        if container:
            with suppress(NotFound):
                await self.engine.wait(self.engine.api.remove_container, container, v=True, force=True)


def _body(package: PackageSource, base: str, folder: Path, beside: Mapping[str, Path], network: str) -> Json:
    links = [
        {"Type": "bind", "Source": str(source), "Target": str(recipe.INSIDE / name), "ReadOnly": True}
        for name, source in beside.items()
        if source.is_dir()
    ]
    return {
        "Image": base,
        "User": "0:0",
        "WorkingDir": "/",
        "Entrypoint": ["/bin/sh", str(recipe.INSIDE / "build_package.sh")],
        "Cmd": recipe.arguments(package),
        "Labels": {ROLE: "build"},
        "HostConfig": {
            "NetworkMode": network,
            "Memory": MEMORY,
            "PidsLimit": PIDS,
            "CapDrop": ["ALL"],
            "CapAdd": CAPABILITIES,
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            # In memory or in a volume: what is in neither becomes the image.
            "Tmpfs": {"/run": "rw,nosuid,nodev,mode=755,size=16m"},
            "Mounts": [
                {"Type": "volume", "Target": "/tmp"},
                {"Type": "bind", "Source": str(folder), "Target": str(recipe.INSIDE), "ReadOnly": True},
                *links,
            ],
        },
    }


def _is_here(host: str) -> bool:
    """Whether that name is an address of this machine: such an address can be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
