"""The table of samples: what each kind may say and what not. One table, run against every judge there is."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent / "samples"


class Sample(NamedTuple):
    """One manifest, and what is expected of a judge."""

    id: str
    manifest: dict[str, Any]
    because: str
    """A part of the problem with its field; empty when the manifest is to be accepted."""


@functools.cache
def samples() -> tuple[Sample, ...]:
    """All samples of all kinds, each with a name of its own. Nobody changes them in place."""
    return tuple(_read())


def _read() -> Iterator[Sample]:
    for file in sorted(FOLDER.glob("*.yaml")):
        # Base loader: dates stay as they are written, as for kubectl; but then numbers would be text.
        table = yaml.load(file.read_text(encoding="utf-8"), Loader=_NoDates)
        changes = [(change, "") for change in table["accept"]]
        changes += [(each["change"], each["because"]) for each in table["reject"]]
        for number, (change, because) in enumerate(changes):
            name = f"{table['kind'].lower()}-{number}"
            spec = {field: value for field, value in (table["base"] | change).items() if value is not None}
            document = {
                "apiVersion": "toolkeeper.dev/v1alpha1",
                "kind": table["kind"],
                "metadata": {"name": name},
                "spec": spec,
            }
            yield Sample(name, document, because)


class _NoDates(yaml.SafeLoader):
    """Like kubectl: a date is text."""


_NoDates.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
