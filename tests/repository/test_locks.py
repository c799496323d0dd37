"""The lock files: exact, hashed, without a host, in step with pyproject.toml and with each other."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ["requirements.lock", "requirements-dev.lock"]


def entries(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """Name → (exact version, hashes)."""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
        parsed = Requirement(requirement)
        (pin,) = parsed.specifier
        assert pin.operator == "=="
        found[canonicalize_name(parsed.name)] = (pin.version, hashes)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_of_a_lock_is_exact_and_hashed(root: Path, name: str) -> None:
    for _, hashes in entries(root / name).values():
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place_to_download_from(root: Path, name: str) -> None:
    text = (root / name).read_text()
    assert re.findall(r"://|^-|--(?:index|extra|find)|\bfile:", text, re.MULTILINE) == []


def test_the_two_locks_agree(root: Path) -> None:
    programs, everything = (entries(root / name) for name in LOCKS)
    assert {name: everything.get(name) for name in programs} == programs


def test_the_locks_satisfy_what_pyproject_asks_for(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    locked = entries(root / "requirements-dev.lock")
    for text in chain(project["project"]["dependencies"], *extras, *groups):
        wanted = Requirement(text)
        if wanted.name == project["project"]["name"]:
            continue
        version, _ = locked.get(canonicalize_name(wanted.name), ("missing", []))
        assert version in wanted.specifier, f"{text}: locked is {version}; run make lock"


def test_every_dependency_says_why_it_is_there(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    dependencies = re.findall(r'^    "[A-Za-z-]+(?:>|=|<)[^"]*",.*$', text, re.MULTILINE)
    assert len(dependencies) > 20
    assert [line.strip() for line in dependencies if not re.search(r'", +# \S', line)] == []
