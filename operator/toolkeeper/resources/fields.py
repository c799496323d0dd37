"""Which fields a kind has, where, and which of them somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import BaseModel

SYNONYMS: Final = MappingProxyType(
    {
        "environment": "env",
        "entrypoint": "command",
        "url": "endpoint",
        "volumemounts": "volumes",
        "mounts": "volumes",
        "limits": "resources",
        "mem": "memory",
        "cpus": "cpu",
    }
)
"""What other tools call some of our fields."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody who wrote `name` most likely meant, or None."""
    by_lower = {each.lower(): each for each in known}
    lower = name.lower().replace("_", "").replace("-", "")
    if by_lower.get(SYNONYMS.get(lower, "")):
        return by_lower[SYNONYMS[lower]]
    close = difflib.get_close_matches(lower[:64], by_lower, n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def known_fields(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The fields, as manifests write them, of what stands at that path; none if it has no fields of its own."""
    found: type[BaseModel] | None = model
    for step in path:
        if found is None:
            return ()
        if isinstance(step, str):
            found = _children(found).get(step)
    return tuple(_aliases(found)) if found else ()


def whereabouts(model: type[BaseModel], name: str) -> str | None:
    """Where in the manifest a field of that name belongs, when there is exactly one such place below spec."""
    places = _places(model).get(SYNONYMS.get(name.lower(), name), ())
    return places[0] if len(places) == 1 else None


@cache
def _places(model: type[BaseModel]) -> Mapping[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {}
    for path in _walk(model, ""):
        if path.startswith("spec."):
            parent, _, name = path.rpartition(".")
            places[name] = (*places.get(name, ()), parent)
    return places


def _walk(model: type[BaseModel], prefix: str) -> Iterator[str]:
    children = _children(model)
    for alias in _aliases(model):
        yield f"{prefix}{alias}"
        if alias in children:
            yield from _walk(children[alias], f"{prefix}{alias}.")


@cache
def _aliases(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


@cache
def _children(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    found = {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}
    return {alias: child for alias, child in found.items() if child is not None}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `tuple[Model, ...] | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
