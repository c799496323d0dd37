"""Conditions after the Kubernetes API conventions, and the one way to carry them forward."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from toolkeeper.resources.meta import Lenient

Status = Literal["True", "False", "Unknown"]
LONGEST_MESSAGE: Final = 2048


class Condition(Lenient):
    """One observed aspect of a resource."""

    type: str = Field(max_length=64)
    """Which aspect, such as Ready."""
    status: Status
    """True, False or Unknown."""
    reason: str = Field(min_length=1, max_length=128)
    """Why, in one word; every reason has a remedy."""
    message: str = Field(default="", max_length=LONGEST_MESSAGE)
    """Why, in a sentence."""
    observed_generation: int = 0
    """Generation of the spec that this condition speaks of."""
    last_transition_time: datetime | None = None
    """When `status` last changed."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        json_schema_extra={
            "maxItems": 32,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
    ),
]


def condition(
    type: str, status: bool | None, reason: str, message: str = "", *, generation: int = 0
) -> Condition:
    """A condition without a transition time yet; `None` means unknown."""
    word: Status = "Unknown" if status is None else "True" if status else "False"
    return Condition(
        type=type,
        status=word,
        reason=reason,
        message=message[:LONGEST_MESSAGE],
        observed_generation=generation,
    )


def carry(
    previous: Iterable[Condition], current: Iterable[Condition], now: datetime
) -> tuple[Condition, ...]:
    """`current`, sorted as given, with the transition times of `previous` kept where `status` is the same.

    A transition time never goes back, even when the clock does.
    """
    before = {old.type: old for old in previous}
    return tuple(_carried(before.get(new.type), new, now) for new in current)


def _carried(old: Condition | None, new: Condition, now: datetime) -> Condition:
    if old is None or old.last_transition_time is None:
        return new.model_copy(update={"last_transition_time": now})
    if old.status != new.status:
        return new.model_copy(update={"last_transition_time": max(now, old.last_transition_time)})
    if (
        old.reason == new.reason
        and old.message == new.message
        and (old.observed_generation == new.observed_generation)
    ):
        return old
    return new.model_copy(update={"last_transition_time": old.last_transition_time})


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((each for each in conditions if each.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:
    """Whether the condition of that type exists and is True."""
    found = find(conditions, type)
    return found is not None and found.status == "True"
