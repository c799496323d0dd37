"""Every toolbox keeps the same promises."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.dtma.client import NodeClient, Trust
from toolkeeper.node.main import serving
from toolkeeper.node.process.runtime import ProcessRuntime
from toolkeeper.node.settings import NodeSettings
from toolkeeper.planning.instance import EnvEntry, FileEntry, Instance, PackageSource
from toolkeeper.testing import tiny_mcp
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.nodes import standing, tiny_instance
from toolkeeper.testing.toolbox_contract import KEY, Stage, ToolboxContract

LOCKED = (EnvEntry("TINY_TOKEN", KEY),)


class TestTheFake(ToolboxContract):
    """In memory."""

    @pytest.fixture
    async def stage(self) -> Stage:
        tiny = FakeImage(pull=0.01, start=0.01, handshake=0.01)
        images = {"tiny": tiny, "none": FakeImage(missing=True), "guarded": replace(tiny, demands=KEY)}
        good, missing, guarded = (
            Instance(1, "streamable-http", image=image, port=8000) for image in ("tiny", "none", "guarded")
        )
        return Stage(FakeToolbox(images=images), good, missing, guarded)


@pytest.mark.process
class TestTheNodeWithProcesses(ToolboxContract):
    """Our node in this process, without a network; its servers are child processes."""

    @pytest.fixture
    async def stage(
        self, tmp_path: Path, package_settings: dict[str, str], package_cache: Path
    ) -> AsyncIterator[Stage]:
        runtime = ProcessRuntime(
            tmp_path / "process",
            clock=SystemClock(),
            new_id=lambda: secrets.token_hex(16),
            settings=package_settings,
            cache=package_cache,
        )
        missing = Instance(1, "stdio", package=PackageSource("pypi", "no-such-package", "1"))
        async with standing(runtime) as stand:
            yield Stage(stand.client, tiny_instance(), missing, replace(tiny_instance(), env=LOCKED))
            for seen in list((await runtime.look()).containers):
                await runtime.remove(seen, 0)


TINY = Path(tiny_mcp.__file__).read_text()


@pytest.mark.docker
class TestTheNodeWithDocker(ToolboxContract):
    """Our node behind TLS on a real port; its servers are containers."""

    @pytest.fixture
    async def stage(self, tmp_path: Path, base_python: str) -> AsyncIterator[Stage]:
        run = Path(f"/run/toolkeeper-contract-{os.getpid()}")
        settings = NodeSettings(
            state_dir=tmp_path / "state",
            run_dir=run,
            port=0,
            runtime="docker",
            tls="on",
        )
        installation = f"contract-{os.getpid()}"
        source = FileEntry("/srv/tiny_mcp.py", value=TINY)
        command = ("python3", "/srv/tiny_mcp.py", "--host", "0.0.0.0", "--port", "{{port}}")
        good = Instance(
            1,
            "streamable-http",
            image=base_python,
            pull_policy="Never",
            port=8000,
            path="/mcp",
            command=command,
            files=(source,),
        )
        missing = Instance(1, "stdio", image="localhost:1/none:none", pull_policy="Never")
        async with serving(settings, clock=SystemClock(), environ=os.environ) as up:
            token = up.tokens.read_text().strip()
            client = NodeClient(up.endpoint, token=token, trust=Trust(fingerprints=(up.fingerprint,)))
            guarded = replace(good, env=LOCKED)
            yield Stage(client, good, missing, guarded, installation, alone=False)
            runtime = up.node.runtime
            for name, seen in (await runtime.look()).containers.items():
                if seen.container.installation == installation:
                    await runtime.remove(name, 0)
            await runtime.leave(installation)
            await client.aclose()
        shutil.rmtree(run, ignore_errors=True)
