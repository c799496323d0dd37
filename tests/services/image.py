"""The image of all programs, built from this tree: `python -m services.image [BASE]`, which is `make image`.

The build gets this machine's certificates, proxies and indexes, as builds of packages on a node do; a stage that is
thrown away sees them.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
from docker.errors import APIError, BuildError

from services import engine
from toolkeeper import __version__
from toolkeeper.node.docker import package_recipe as recipe

ROOT = Path(__file__).parents[2]
NAME = f"toolkeeper:{__version__}"
PUBLIC_BASE = "python:3.12-slim"
SOURCES = ("Dockerfile", "LICENSE", "README.md", "pyproject.toml", "requirements.lock", "operator/toolkeeper")
SETTINGS = Path("build-settings")
TESTED = "toolkeeper-test/image:current"
MARK = "a-setting-of-this-machine-only"
"""In the settings with which the tested image is built: it must not be found in it."""


def build(
    connected: docker.DockerClient,
    base: str,
    *,
    name: str = NAME,
    labels: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Build it on that base. Returns its name. Raises APIError, BuildError."""
    variables, beside = recipe.settings(environment, Path.exists)
    connected.images.build(
        fileobj=_context(variables, beside), custom_context=True, tag=name, rm=True, forcerm=True,
        buildargs={"BASE": base}, labels=dict(labels or {}),
        # A proxy or an index on this machine itself is not reached from any other network.
        network_mode="host" if recipe.hosts(variables) & {"localhost", "127.0.0.1", "::1"} else None,
    )  # fmt: skip
    return name


def tested(connected: docker.DockerClient, base: str) -> str:
    """The image that the tests run; that of an earlier run goes, and its layer with the dependencies is found again."""
    before = connected.images.list(TESTED)
    build(connected, base, name=TESTED, environment=os.environ | {"npm_config_marked": MARK})
    newest = connected.images.get(TESTED).id
    for old in before:
        if old.id is not None and old.id != newest:
            connected.images.remove(old.id)
    return TESTED


def _context(variables: Mapping[str, str], beside: Mapping[str, Path]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for source in SOURCES:
            archive.add(ROOT / source, source, filter=_plain)
        for path, content in _settings(variables, beside):
            entry = tarfile.TarInfo(str(SETTINGS / path))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


def _settings(variables: Mapping[str, str], beside: Mapping[str, Path]) -> Iterator[tuple[Path, bytes]]:
    yield Path("settings"), recipe.script(variables).encode()
    for name, source in beside.items():
        files = [source] if source.is_file() else [each for each in source.rglob("*") if each.is_file()]
        for file in files:
            yield Path(name) / file.relative_to(source) if source.is_dir() else Path(name), file.read_bytes()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The same for everybody's checkout, so that the layers of an earlier build are found again."""
    if "__pycache__" in entry.name:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def main() -> int:
    base = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else PUBLIC_BASE
    if (reason := engine.silent()) is not None:
        print(f"image: {reason}", file=sys.stderr)
        return 1
    connected = engine.client()
    try:
        print(f"image: building {NAME} on {base}", flush=True)
        build(connected, base)
    except (APIError, BuildError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    finally:
        connected.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
