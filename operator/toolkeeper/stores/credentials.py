"""Secrets of a machine without a secret store: files in a folder, and environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from toolkeeper.errors import NotFound, Refused
from toolkeeper.resources.agentconnection import AgentConnection

SAFE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""Names that can be part of a path: no separator, no leading dot."""
LARGEST = 1024 * 1024
PREFIX = "TOOLKEEPER_SECRET_"


class EnvironmentValues(Mapping[str, str]):
    """The keys of one secret among environment variables.

    Key `bot-token` of secret `slack` is TOOLKEEPER_SECRET_SLACK_BOT_TOKEN. A variable's name does not say how its
    key was spelled, so any spelling that leads to it finds it.
    """

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        prefix = PREFIX + _shouted(name) + "_"
        self._values = {
            variable.removeprefix(prefix): value
            for variable, value in environment.items()
            if variable.startswith(prefix) and variable != prefix
        }

    def __getitem__(self, key: str) -> str:
        return self._values[_shouted(key)]

    def __iter__(self) -> Iterator[str]:
        return (each.lower() for each in self._values)

    def __len__(self) -> int:
        return len(self._values)


class Layers(Mapping[str, str]):
    """The values of one secret from several sources; the first source that has a key answers."""

    def __init__(self, *sources: Mapping[str, str]) -> None:
        self._sources = [each for each in sources if each]

    def __getitem__(self, key: str) -> str:
        for source in self._sources:
            if key in source:
                return source[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for source in self._sources for key in source))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def file_values(folder: Path, namespace: str, name: str) -> dict[str, str]:
    """The files of `<folder>/<namespace>/<name>/`, one per key, without one trailing line break.

    Empty when there is no such folder. Raises Refused for what leads out of `folder`, is larger than 1 MiB,
    is not text, or may not be read.
    """
    if not (SAFE.fullmatch(namespace) and SAFE.fullmatch(name)):
        raise Refused(f"{namespace}/{name} cannot be the name of a secret", reason="SecretInvalid")
    home = folder / namespace / name
    for _ in range(2):  # mounted secrets are swapped while we look; the second look sees the new ones
        try:
            return {each.name: _value(folder, each) for each in sorted(home.iterdir()) if _is_key(each)}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise Refused(
                f"the secret in {home} cannot be read: {exc.strerror}", reason="SecretInvalid"
            ) from exc
    return {}


def not_found(namespace: str, name: str, *, folder: Path | None, declarable: bool) -> NotFound:
    """Says every place where the secret could be put."""
    places = []
    if declarable:
        places.append(f"declare a v1 Secret {name} in namespace {namespace}")
    if folder is not None:
        places.append(f"write its keys as files to {folder / namespace / name}/")
    places.append(f"set {PREFIX}{_shouted(name)}_<KEY>")
    return NotFound(f"there is no secret {namespace}/{name}: " + ", or ".join(places))


def token_secret_taken(connection: AgentConnection) -> Refused:
    """The error about a secret of somebody else where the agent's token should be."""
    where = f"{connection.metadata.namespace}/{connection.token_secret}"
    return Refused(
        f"the secret {where} is there and was not made for this connection, so it is neither read nor replaced: "
        "name another one in spec.tokenSecretRef, or delete it",
        reason="TokenSecretTaken",
    )


def no_tokens() -> Refused:
    """The error of a store that has no place for the tokens of agents."""
    return Refused(
        "this store keeps no tokens for agents: that needs Kubernetes, and a gateway that asks for them",
        reason="TokensNotKept",
    )


def _is_key(file: Path) -> bool:
    return not file.name.startswith("..") and file.is_file()  # `..data` is how mounted secrets are swapped


def _value(folder: Path, file: Path) -> str:
    if not file.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"{file} is a link that leads out of {folder}", reason="SecretInvalid")
    if file.stat().st_size > LARGEST:
        raise Refused(f"{file} is larger than 1 MiB", reason="SecretInvalid")
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        raise Refused(f"{file} is not UTF-8 text", reason="SecretInvalid") from None
    # `echo token > file` is how such files come to be; no token ends with a line break.
    return text.removesuffix("\n").removesuffix("\r")


def _shouted(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", text).upper()
