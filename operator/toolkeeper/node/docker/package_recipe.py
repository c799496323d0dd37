"""What goes into the image of a package, and what must not stay in it. Pure.

The image's tag is a digest of everything that goes in, so the same package is built once, and another base image makes
another image. The node's own settings (certificates, proxies, indexes) say how the parts are fetched, not which: they
are no part of the digest, and reach the build through files in memory that the image never sees.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from toolkeeper.node.docker.marks import PREFIX
from toolkeeper.node.requirements import requirements
from toolkeeper.planning.instance import PackageSource

RECIPE: Final = 1
"""Grows with every change of `build_package.sh` or of the settings below that changes what comes out."""
REPOSITORY: Final = "toolkeeper/pkg"
HOME: Final = PurePosixPath("/opt/package/bin")
INSIDE: Final = PurePosixPath("/run/toolkeeper")
"""Where a build finds the script and the node's settings: a tmpfs, which no image contains."""
PACKAGE_LABEL, ENTRY_LABEL, PROGRAMS_LABEL = PREFIX + "package", PREFIX + "entrypoint", PREFIX + "programs"

CA_SOURCES: Final = (
    "PIP_CERT",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
CA_NAMES: Final = (*CA_SOURCES, "GIT_SSL_CAINFO", "npm_config_cafile")
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PIP: Final = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_PROXY",
    "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_PREFER_BINARY", "PIP_ONLY_BINARY",
)  # fmt: skip
FILES: Final = ("PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG", "npm_config_userconfig")
"""Settings that name a file, which goes along."""
NPM_PREFIX: Final = "npm_config_"
NPM_OWN: Final = (
    "prefix",
    "cache",
    "global",
    "cafile",
    "userconfig",
    "globalconfig",
    "nodedir",
    "tmp",
    "local_prefix",
)
"""npm's settings that mean this machine, not the build's."""


def tag(package: PackageSource, base: str) -> str:
    """The name of the image for this package on this base image (its id)."""
    parts: list[Any] = [RECIPE, base, package.registry, package.name, package.version]
    parts += [sorted(package.companions), sorted(package.system)]
    return f"{REPOSITORY}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]}"


def arguments(package: PackageSource) -> list[str]:
    """What `build_package.sh` is called with. Raises Invalid for what pip or npm could read as something else."""
    return [package.registry, package.name, " ".join(package.system), *requirements(package)]


def entrypoint(package: PackageSource, scripts: Sequence[str]) -> str | None:
    """Which of the package's programs is the server; None when that cannot be told."""
    plain = package.name.rpartition("/")[2]
    if len(scripts) == 1:
        return scripts[0]
    return next((each for each in scripts if _folded(each) == _folded(plain)), None)


def image_config(
    package: PackageSource, base_environment: Sequence[str], scripts: Sequence[str]
) -> dict[str, Any]:
    """The config of the image: written whole, so that nothing of the build container stays in it."""
    inherited = dict(each.split("=", 1) for each in base_environment)
    path = inherited.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment = {**inherited, "PATH": f"{HOME}:{path}"}
    if package.registry == "pypi":
        environment["PYTHONUNBUFFERED"] = "1"
    chosen = entrypoint(package, scripts)
    return {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        # One of them must be given, or the build's own command stays; a label says that the shell is none.
        **({"Entrypoint": [str(HOME / chosen)]} if chosen else {"Cmd": ["/bin/sh"]}),
        "WorkingDir": "/",
        "Labels": {
            PACKAGE_LABEL: f"{package.registry}:{package.name}=={package.version}",
            ENTRY_LABEL: chosen or "",
            PROGRAMS_LABEL: ",".join(scripts),
        },
    }


def settings(
    environment: Mapping[str, str], exists: Callable[[Path], bool]
) -> tuple[dict[str, str], dict[str, Path]]:
    """From the node's environment: the variables of the build, and what is laid beside them (name → on the host)."""
    beside: dict[str, Path] = {}
    found = {name: environment[name] for name in PIP if environment.get(name)}
    for name in PROXIES:
        if value := environment.get(name) or environment.get(name.upper()):
            found |= {name: value, name.upper(): value}
    for name, value in environment.items():
        key = name.lower()
        if key.startswith(NPM_PREFIX) and key.removeprefix(NPM_PREFIX) not in NPM_OWN and value:
            found[key] = value
    for name in FILES:
        if (value := environment.get(name)) and exists(Path(value)):
            beside[name.lower()] = Path(value)
            found[name] = str(INSIDE / name.lower())
    bundles = (Path(environment[name]) for name in CA_SOURCES if environment.get(name))
    if (bundle := next(filter(exists, bundles), None)) is not None:
        beside["ca.pem"] = bundle
        found |= dict.fromkeys(CA_NAMES, str(INSIDE / "ca.pem"))
    if links := _links(environment.get("PIP_FIND_LINKS", "").split(), exists, beside):
        found["PIP_FIND_LINKS"] = links
    return found, beside


def _links(places: Sequence[str], exists: Callable[[Path], bool], beside: dict[str, Path]) -> str:
    """Where more packages lie: URLs stay, folders of this machine go along."""
    kept: list[str] = []
    for n, place in enumerate(places):
        if "://" in place:
            kept.append(place)
        elif exists(Path(place)):
            beside[f"links-{n}"] = Path(place)
            kept.append(str(INSIDE / f"links-{n}"))
    return " ".join(kept)


def script(variables: Mapping[str, str]) -> str:
    """The file `settings`, for a shell to read."""
    lines = {**variables, "HOME": "/tmp/home", "PIP_CACHE_DIR": "/tmp/pip-cache"}
    exports = [
        f"export {name}={shlex.quote(value)}" for name, value in lines.items() if _NAME.fullmatch(name)
    ]
    return "\n".join([*exports, "mkdir -p /tmp/home", ""])


def apt_config(*, bundle: bool) -> str:
    """The file `apt.conf`: apt reads proxies from the environment, but not certificates."""
    return f'Acquire::https::CaInfo "{INSIDE / "ca.pem"}";\n' if bundle else ""


def hosts(variables: Mapping[str, str]) -> frozenset[str]:
    """The hosts that the settings send a build to: those on this machine need its own network."""
    urls = (word for value in variables.values() for word in value.split() if "://" in word)
    return frozenset(host for host in (urlsplit(url).hostname for url in urls) if host)


def masked(text: str, variables: Mapping[str, str]) -> str:
    """Without the credentials that settings may carry: build output is shown to people."""
    for value in variables.values():
        for secret in re.findall(r"://([^/@\s]+)@", value):
            text = text.replace(secret, "****")
    return text


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
