"""What every test may use, and the account of the groups: which ran, which were skipped, and why."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import docker
import pytest

import generated
from services import apiserver, base_images, engine, groups, image, registry
from toolkeeper.testing.wheels import offline, tiny_package

PATIENCE = 0.8
"""Of a test's timeout: an async test is cancelled then, so that its fixtures tidy up and the run goes on.

The plugin that enforces the timeout raises wherever the loop happens to be, after which the loop waits for ever.
"""

generated.register()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the programs do."""
    return "asyncio"


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client for the real engine; for tests marked `docker` or `registry`."""
    connected = engine.client()
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def base_python() -> str:
    """The name of an image with Python, present in the engine."""
    return base_images.PYTHON


@pytest.fixture(scope="session")
def base_node() -> str:
    """The name of an image with Node and Python, present in the engine."""
    return base_images.NODE


@pytest.fixture(scope="session")
def program_image(docker_engine: docker.DockerClient, base_python: str) -> str:
    """The name of the image of all programs, built from this tree; for tests marked `docker` and `network`."""
    return image.tested(docker_engine, base_python)


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real image registry that lets everybody in; for tests marked `registry`."""
    with registry.running(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real image registry that wants user `toolkeeper`, password `correct horse`."""
    folder = tmp_path_factory.mktemp("private-registry")
    with registry.running(folder, username="toolkeeper", password="correct horse") as address:
        yield address


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    """A real Kubernetes API server without any controller; for tests marked `kubernetes`."""
    with apiserver.running(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="session")
def package_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which pip finds `tiny-mcp` and nothing else, without a network."""
    index = tmp_path_factory.mktemp("index")
    tiny_package(index)
    return offline(index, os.environ)


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments are kept between tests."""
    return tmp_path_factory.mktemp("environments")


class Account:
    """How many tests of each group ended how; kept by the process that reports, with xdist or without."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: at its call, or at the set-up or tear-down that kept it from a verdict."""
        if report.when != "call" and report.passed:
            return
        for marker in [value for name, value in report.user_properties if name == "group"]:
            self.outcomes.setdefault(str(marker), Counter())[report.outcome] += 1
            if report.skipped and isinstance(report.longrepr, tuple):
                self.reasons[str(marker)] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for marker in sorted(self.outcomes):
            terminalreporter.write_line(self.line(marker))

    def line(self, marker: str) -> str:
        """`group docker: ran 31`, `group kubernetes: skipped 4: Go is missing`."""
        outcome = self.outcomes[marker]
        ran = outcome["passed"] + outcome["failed"]
        parts = [f"ran {ran}"] if ran else []
        parts += [f"failed {outcome['failed']}"] if outcome["failed"] else []
        parts += [f"skipped {outcome['skipped']}: {self.reasons[marker]}"] if outcome["skipped"] else []
        return f"group {marker}: {', '.join(parts)}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Account(), "account-of-groups")
    gc.disable()  # until everything is collected: what is imported stays, and looking through it again takes seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A property travels with the report, also from an xdist worker, and unlike a keyword it is no folder's name.
        item.user_properties += [
            ("group", marker) for marker in groups.ALL if item.get_closest_marker(marker) is not None
        ]
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _impatient(item.obj, PATIENCE * _timeout(item))


def _timeout(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def _impatient(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*given: object, **fixtures: object) -> None:
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await test(*given, **fixtures)
        except TimeoutError:
            if deadline.expired():
                pytest.fail(f"it took longer than {seconds:.0f} s", pytrace=True)
            raise

    return run


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave alone what was imported, and collect what the tests leave behind.

    And build what takes longer than a test may, before the first test starts; afterwards it is found in the cache.
    """
    gc.freeze()
    gc.enable()
    if any(("group", "kubernetes") in item.user_properties for item in session.items):
        groups.ALL["kubernetes"].install()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, marker in item.user_properties:
        if name == "group" and (reason := groups.absent(str(marker))) is not None:
            pytest.skip(reason)
