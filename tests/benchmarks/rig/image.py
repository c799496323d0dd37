"""The server that the benchmarks start: a small static program, or a Python script where Go is missing."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import toolkeeper.testing.tiny_mcp
from benchmarks.rig.engine import Engine
from services import base_images, cache

SOURCE = Path(__file__).parent / "server"
PORT = 8000


@dataclass(frozen=True, slots=True)
class Server:
    """An image, and what a manifest says besides."""

    image: str
    spec: dict[str, Any]
    text: str
    """What it is, for people."""


def server(engine: Engine) -> Server:
    """The server's image, made if it is not there. Raises SystemExit when neither kind can be had."""
    if shutil.which("go") is not None:
        return Server(_static(engine), {}, "a static Go program")
    if not engine.has_image(base_images.PYTHON):
        raise SystemExit(f"neither Go nor the image {base_images.PYTHON} is here")
    script = Path(toolkeeper.testing.tiny_mcp.__file__)
    command = ["python3", "/tiny_mcp.py", "--host", "0.0.0.0", "--port", str(PORT)]
    files = [{"path": "/tiny_mcp.py", "value": script.read_text()}]
    return Server(base_images.PYTHON, {"command": command, "files": files}, "a Python script")


def _static(engine: Engine) -> str:
    tag = hashlib.sha256(b"".join(each.read_bytes() for each in sorted(SOURCE.iterdir()))).hexdigest()[:12]
    name = f"toolkeeper-benchmark:{tag}"
    if not engine.has_image(name):
        program = _built(tag)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(program, "server")
        engine.load(
            f"/images/create?fromSrc=-&repo=toolkeeper-benchmark&tag={tag}&changes=ENTRYPOINT%20%5B%22%2Fserver%22%5D",
            packed.getvalue(),
        )
    return name


def _built(tag: str) -> Path:
    program = cache.folder() / f"benchmark-server-{tag}"
    if not program.exists():
        partial = program.with_suffix(".partial")
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(partial), "."],
            cwd=SOURCE,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"},
            check=True,
        )
        partial.rename(program)
    return program
