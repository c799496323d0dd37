"""A package index of one package, and a cache of what was installed from it, for the whole run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolkeeper.testing.wheels import offline, tiny_package


@pytest.fixture(scope="session")
def package_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which pip finds `tiny-mcp` and nothing else, without a network."""
    index = tmp_path_factory.mktemp("index")
    tiny_package(index)
    return offline(index, os.environ)


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments are kept between tests."""
    return tmp_path_factory.mktemp("environments")
