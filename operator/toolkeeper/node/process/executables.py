"""Which program an installed package brings: the one of its own name, or its only one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from toolkeeper.errors import Refused


@dataclass(frozen=True, slots=True)
class Executable:
    """A program, or why there is none (`command` in the spec can still name one)."""

    path: Path | None
    problem: str = ""

    def required(self) -> Path:
        """The program. Raises Refused(StartFailed)."""
        if self.path is None:
            raise Refused(self.problem, reason="StartFailed")
        return self.path


def find_pypi(environment: Path, package: str) -> Executable:
    """Of the console scripts of a PyPI package."""
    package = package.partition("[")[0]
    name = _normal(package)
    folders = [str(path) for path in environment.glob("lib/python*/site-packages")]
    for distribution in distributions(path=folders):
        if _normal(distribution.metadata["Name"] or "") == name:
            return _choose(
                package, {script: environment / "bin" / script for script in _scripts(distribution)}
            )
    return Executable(None, f"{package} was installed but cannot be found in its environment")


def find_npm(environment: Path, package: str) -> Executable:
    """Of the `bin` entries of an npm package."""
    modules = environment / "node_modules"
    try:
        manifest = json.loads((modules / package / "package.json").read_text())
    except (OSError, ValueError):
        return Executable(None, f"{package} was installed but cannot be found in its environment")
    own = package.rpartition("/")[2]
    bin_ = manifest.get("bin") or {}
    names = [own] if isinstance(bin_, str) else sorted(bin_)
    return _choose(own, {name: modules / ".bin" / name for name in names})


def _choose(package: str, programs: Mapping[str, Path]) -> Executable:
    same = [path for name, path in programs.items() if _normal(name) == _normal(package)]
    if same or len(programs) == 1:
        return Executable((same or list(programs.values()))[0])
    if not programs:
        return Executable(None, f"{package} brings no program: set `command`")
    return Executable(
        None, f"{package} brings several programs ({', '.join(sorted(programs))}): set `command`"
    )


def _scripts(distribution: Distribution) -> list[str]:
    return sorted(entry.name for entry in distribution.entry_points if entry.group == "console_scripts")


def _normal(name: str) -> str:
    """PyPI's rule for names that mean the same."""
    return re.sub(r"[-_.]+", "-", name).lower()
