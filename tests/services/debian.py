"""Debian's packages: installing them where this process may, and finding the machine's mirror."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path


def cannot_install() -> str | None:
    """Why packages cannot be installed here; None if they can."""
    if not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        return "not a Debian machine"
    if os.geteuid() != 0:
        return "not root"
    return None


def install(packages: dict[str, str]) -> str | None:
    """Install those of `packages` (name → a program of it) whose program is not there.

    Returns why one is still missing, or None.
    """
    missing = [package for package, program in packages.items() if shutil.which(program) is None]
    if not missing:
        return None
    if (reason := cannot_install()) is not None:
        return f"{' and '.join(missing)} missing, {reason}"
    # A third party's source that cannot be reached fails the update, and need not concern Debian's own packages.
    _apt_get("update", "-qq")
    done = _apt_get("install", "-y", "-qq", "--no-install-recommends", *missing)
    return f"apt-get install failed: {done.stdout.strip()[-300:]}" if done.returncode else None


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def mirror() -> str | None:
    """The mirror that this machine's apt uses for Debian's main archive, in whichever of the two formats."""
    folder = Path("/etc/apt")
    for source in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if not source.is_file():
            continue
        for url in re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+)", source.read_text(), re.MULTILINE):
            if str(url).rstrip("/").endswith("/debian"):
                return str(url)
    return None
