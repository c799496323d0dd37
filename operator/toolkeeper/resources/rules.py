"""Rules that one field alone cannot express, each in two languages that stand side by side.

A `Rule` is checked by pydantic here and by the Kubernetes API server through its CEL twin; `KeyedBy` is uniqueness
here and a list-map key there. One table of samples is run against both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from toolkeeper.resources.meta import Model

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue  # takes 8 ms, and only `crds` needs it at run time


class Rule(NamedTuple):
    """What must hold between the fields of one model."""

    says: str
    """The sentence that a person reads when it does not hold."""
    holds: Callable[[Any], bool]
    cel: str
    """The same for the API server. Defaults are not filled in there, so it asks `has(…)` first."""
    at: str = ""
    """The field (as written in manifests) that the sentence is about; empty: the object itself."""


class Ruled(Model):
    """A model whose fields must fit together."""

    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        broken = tuple(rule for rule in self.RULES if not rule.holds(self))
        if broken:
            says = "; ".join(rule.says for rule in broken)
            raise PydanticCustomError("rules", "{says}", {"says": says, "broken": broken})
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        found = handler(schema)
        twins = [
            {"rule": rule.cel, "message": rule.says, **({"fieldPath": f".{rule.at}"} if rule.at else {})}
            for rule in cls.RULES
        ]
        handler.resolve_ref_schema(found)["x-kubernetes-validations"] = twins
        return found


@dataclass(frozen=True, slots=True)
class KeyedBy:
    """Marks a list whose items are told apart by one field: no two may have the same."""

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._unique, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.field]}
        return {**handler(schema), **keys}

    def _unique(self, items: Sequence[Any]) -> Sequence[Any]:
        seen: dict[str, int] = {}
        for index, item in enumerate(items):
            value = getattr(item, self.field)
            if value in seen:
                raise PydanticCustomError(
                    "duplicate",
                    "has the same {field} as entry {first}",
                    {"field": self.field, "first": seen[value], "index": index},
                )
            seen[value] = index
        return items


def exactly_one(*fields: str) -> Rule:
    """Of the fields (as written in manifests), one must be there and no other."""
    there = ", ".join(f"has(self.{each})" for each in fields)
    return Rule(
        f"exactly one of {', '.join(fields)} must be set",
        lambda model: sum(_get(model, each) is not None for each in fields) == 1,
        f"[{there}].exists_one(x, x)",
    )


def _get(model: Model, alias: str) -> Any:
    fields = type(model).model_fields
    return next(getattr(model, name) for name, field in fields.items() if field.alias == alias)
