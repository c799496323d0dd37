"""A package index in a directory: wheels with one module and one program each, made without a build tool.

With `PIP_NO_INDEX=1 PIP_FIND_LINKS=<directory>` the real pip installs them, offline, in a moment.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from toolkeeper.testing import tiny_mcp


def make_wheel(
    directory: Path, name: str, version: str, source: str, *, programs: Mapping[str, str] | None = None
) -> Path:
    """A wheel whose only module has that source; `programs` are its console scripts (default: its name → `main`)."""
    module = name.replace("-", "_")
    scripts = {name: f"{module}:main"} if programs is None else programs
    entries = "".join(f"{script} = {target}\n" for script, target in scripts.items())
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toolkeeper\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{entries}" if entries else "",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = directory / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name_, content)
    return path


def tiny_package(directory: Path, version: str = "1.0.0") -> Path:
    """`tiny_mcp` as the PyPI package `tiny-mcp`."""
    return make_wheel(directory, "tiny-mcp", version, Path(tiny_mcp.__file__).read_text())


def offline(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which pip finds the packages of that directory and asks nobody else."""
    kept = {key: value for key, value in environ.items() if not key.startswith("PIP_")}
    return kept | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_CONFIG_FILE": "/dev/null"}
