"""Package names and versions as pip and npm read them: validated here, because an option is text as well. Pure."""

from __future__ import annotations

import re

from toolkeeper.errors import Invalid
from toolkeeper.planning.instance import Instance, PackageSource

_PYPI_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9._,-]+\])?")
_PYPI_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_PYPI_COMPANION = re.compile(
    _PYPI_NAME.pattern
    + r"((===?|~=|!=|<=?|>=?)[A-Za-z0-9.*+!_-]+(,(===?|~=|!=|<=?|>=?)[A-Za-z0-9.*+!_-]+)*)?"
)
_NPM_NAME = re.compile(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*")
_NPM_VERSION = re.compile(r"[0-9][A-Za-z0-9.+-]*")
_NPM_COMPANION = re.compile(_NPM_NAME.pattern + r"(@[\^~<>=]*[0-9][A-Za-z0-9.+-]*)?")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def requirements(package: PackageSource) -> tuple[str, ...]:
    """What the registry's tool is told to install: the package at its exact version, then its companions.

    Raises Invalid for anything that the tool could read as an option, a path or a URL.
    """
    name, version, companion, joint = (
        (_PYPI_NAME, _PYPI_VERSION, _PYPI_COMPANION, "==")
        if package.registry == "pypi"
        else (_NPM_NAME, _NPM_VERSION, _NPM_COMPANION, "@")
    )
    if not name.fullmatch(package.name):
        raise Invalid(f"{package.name!r} is not the name of a package on {package.registry}")
    if not version.fullmatch(package.version):
        raise Invalid(f"{package.version!r} is not an exact version on {package.registry}")
    for each in package.companions:
        if not companion.fullmatch(each):
            raise Invalid(f"{each!r} is not a package with an optional version on {package.registry}")
    return (f"{package.name}{joint}{package.version}", *package.companions)


def check(instance: Instance) -> None:
    """Raises Invalid when its package cannot be asked for."""
    if instance.package is None:
        return
    requirements(instance.package)
    for each in instance.package.system:
        if not _DEBIAN.fullmatch(each):
            raise Invalid(f"{each!r} is not the name of a Debian package")
