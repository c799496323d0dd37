"""The name that tells one control plane from another: from the source itself or given, never from a database."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from toolkeeper.errors import Invalid
from toolkeeper.resources.meta import DNS_LABEL

FILE = "toolkeeper.yaml"
"""Beside the manifests, and not one of them."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation id and where it comes from."""

    id: str
    origin: str
    """One sentence for people."""


def installation_of(root: Path, given: str | None = None, *, source: str | None = None) -> Installation:
    """The id of the control plane whose manifests are in `root`.

    `given` wins; then `installation:` in toolkeeper.yaml; then a name derived from the folder's path, or from the
    `source` that it is a copy of. Raises Invalid for a name that is no DNS label and for a file that cannot be read:
    a guess would orphan every container.
    """
    if given is not None:
        return Installation(_checked(given, "the given installation"), "given")
    declared = _declared(root / FILE)
    if declared is not None:
        return Installation(declared, f"from {root / FILE}")
    if source is not None:
        id = "g" + hashlib.sha256(source.encode()).hexdigest()[:8]
        return Installation(
            id,
            f"derived from {source}; write 'installation: {id}' to {FILE} there to keep it when that moves",
        )
    path = root.resolve()
    id = "d" + hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:8]
    return Installation(
        id,
        f"derived from the path {path}; write 'installation: {id}' to {root / FILE} to keep it when the folder moves",
    )


def _declared(file: Path) -> str | None:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Invalid(f"{file} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise Invalid(f"{file} is not YAML: {str(exc).splitlines()[0]}") from exc
    if document is None:
        return None
    if not isinstance(document, dict) or set(document) - {"installation"}:
        raise Invalid(f"{file} holds one field, 'installation: NAME', and nothing else")
    return _checked(document.get("installation"), f"installation in {file}")


def _checked(name: object, what: str) -> str:
    if not isinstance(name, str) or len(name) > 63 or not re.fullmatch(DNS_LABEL, name):
        raise Invalid(
            f"{what} must be lower-case letters, digits and '-', at most 63 characters; it is {name!r}"
        )
    return name
