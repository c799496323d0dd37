"""The import contracts bite: each is broken on purpose in a small tree of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "Layers: down only, siblings do not see each other": ("resources/a.py", "import toolkeeper.planning.a"),
    "The nouns and the decisions do no I/O": ("resources/b.py", "import httpx"),
    "Policy, rendering, rows and views do no I/O": ("stores/rows.py", "import sqlite3"),
    "Planning reads no clock, no settings, and counts nothing": ("planning/b.py", "import time"),
    "Nothing that ships into production imports testing": ("node/a.py", "import toolkeeper.testing.a"),
    "kopf lives in stores.kubernetes": ("reconcile/a.py", "import kopf"),
    "docker lives in node.docker": ("cli/a.py", "import docker"),
    "supabase lives in stores.supabase": ("stores/a.py", "import supabase"),
    "The MCP SDK lives where MCP is spoken": ("dtma/a.py", "import mcp"),
    "watchfiles lives in stores": ("node/b.py", "import watchfiles"),
}
HOMES = {
    "stores/kubernetes/feed.py": "import kopf, aiohttp",
    "node/docker/engine.py": "import docker, mcp",
    "stores/supabase.py": "import supabase",
    "stores/directory.py": "import watchfiles",
    "cli/b.py": "import toolkeeper.stores.kubernetes.feed, toolkeeper.node.docker.engine, toolkeeper.stores.supabase",
}


def lint(folder: Path, root: Path, modules: dict[str, str]) -> str:
    """What import-linter says of a tree of these modules under our contracts."""
    package = folder / "toolkeeper"
    # Nothing below a package that is missing could break its contract, so all of them are there.
    lines = {"planning/a.py": "", "testing/a.py": "", "gateway/a.py": "", "probe/a.py": "", **modules}
    for name, line in lines.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n")
    for parent in {package, *(path.parent for path in package.rglob("*.py"))}:
        (parent / "__init__.py").touch()
    shutil.copy(root / "pyproject.toml", folder)
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", linter, "--no-cache"],
        cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, root: Path) -> str:
    return lint(tmp_path_factory.mktemp("broken"), root, dict(BROKEN.values()))


@pytest.mark.parametrize("contract", BROKEN)
def test_an_import_against_the_grain_breaks_its_contract(broken: str, contract: str) -> None:
    assert f"{contract} BROKEN" in broken


def test_each_foreign_library_is_welcome_in_its_home(tmp_path: Path, root: Path) -> None:
    assert " 0 broken" in lint(tmp_path, root, HOMES)
