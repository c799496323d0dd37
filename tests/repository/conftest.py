"""The tree as it would be committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def texts(root: Path) -> dict[str, str]:
    """Path in the tree → content, of every text file that Git tracks or would take up."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=True, text=True,
    )  # fmt: skip
    found = {}
    for name in sorted({*listed.stdout.split("\0")} - {""}):
        path = root / name
        if not path.is_file():
            continue  # removed, and the removal not yet committed
        try:
            found[name] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


@pytest.fixture(scope="session")
def modules(texts: dict[str, str]) -> dict[str, str]:
    """The Python files under operator/toolkeeper."""
    return {name: text for name, text in texts.items() if _is_module(name)}


def _is_module(name: str) -> bool:
    return name.startswith("operator/toolkeeper/") and name.endswith(".py")
