"""Ways to break a manifest, as what it says or as how it is written; chance decides which, and where."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from resources.samples import samples
from toolkeeper.resources.printing import print_yaml

Document = dict[str, Any]
Slot = tuple[Any, Any]
"""Where a value stands: a map or list, and the key or index in it."""

QUANTITIES = frozenset({"memory", "cpu"})
"""Fields that take a whole number and its text alike."""
ACCEPTED = [each.manifest for each in samples() if not each.because]


def _slots(value: Any) -> Iterator[Slot]:
    """Every place below `spec`, leaving out maps with keys of their author's choice."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        if key not in {"serverSelector", "toolboxSelector"}:
            yield value, key
            yield from _slots(each)


def _pick(rng: random.Random, document: Document, *types: type) -> Slot:
    """A place whose value is of one of these types (bool is no int here, and a quantity none that must be)."""
    slots = [slot for slot in _slots(document["spec"]) if type(slot[0][slot[1]]) in types]
    return rng.choice([(parent, key) for parent, key in slots if not _may_be_text(parent[key], key)])


def _may_be_text(value: Any, key: Any) -> bool:
    return type(value) is int and key in QUANTITIES


def _maps(document: Document) -> list[Document]:
    below = (parent[key] for parent, key in _slots(document["spec"]))
    return [document["spec"], *(each for each in below if isinstance(each, dict))]


# Mutations of what is said. Each makes a valid manifest certainly invalid; IndexError: it does not apply to this one.


def misspelt_field(rng: random.Random, document: Document) -> None:
    where = rng.choice(_maps(document))
    key = rng.choice([*where])
    where[key[:-1] + "qq"] = where.pop(key)


def invented_field(rng: random.Random, document: Document) -> None:
    rng.choice(_maps(document))["x-" + rng.choice(["note", "1", ""])] = rng.choice([1, "a", None, {}, [[]]])


def snake_case(rng: random.Random, document: Document) -> None:
    wide = [(where, key) for where in _maps(document) for key in where if re.search("[a-z][A-Z]", key)]
    where, key = rng.choice(wide)
    where[re.sub("(?<=[a-z])(?=[A-Z])", "_", key).lower()] = where.pop(key)


def unknown_metadata(rng: random.Random, document: Document) -> None:
    document["metadata"][rng.choice(["lables", "annotation", "nmae"])] = {}


def number_for_text(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str)
    parent[key] = rng.choice([1.5, -3, 10**30] if key in QUANTITIES else [0, 1.5, -3, 10**30])


def truth_for_text(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str)
    parent[key] = rng.choice([True, False])


def list_for_text(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str, int, bool)
    parent[key] = [parent[key]]


def text_for_list(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, list)
    parent[key] = "a, b"


def text_for_map(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, dict)
    parent[key] = "a=b"


def map_for_text(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str)
    parent[key] = {"value": parent[key]}


def text_for_number(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, int)
    parent[key] = str(parent[key])


def text_for_truth(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, bool)
    parent[key] = rng.choice(["true", "yes", "1"])


def number_out_of_bounds(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, int)
    parent[key] = rng.choice([-1, 2**31 * 4, 10**17, -(10**17)])


def fraction(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, int)
    parent[key] = rng.choice([0.5, 1e300, float("inf"), float("nan")])


def text_too_long(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str)
    parent[key] = "a" * 70_000


def list_too_long(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, list)
    parent[key] = ["a:1"] * 2000


def nothing_in_a_list(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, list)
    parent[key] = [None, *parent[key]]


def control_character(rng: random.Random, document: Document) -> None:
    parent, key = _pick(rng, document, str)
    parent[key] += "\0"


def missing_part(rng: random.Random, document: Document) -> None:
    del document[rng.choice(["apiVersion", "kind", "metadata", "spec"])]


def missing_name(rng: random.Random, document: Document) -> None:
    del document["metadata"]["name"]


def bad_name(rng: random.Random, document: Document) -> None:
    document["metadata"]["name"] = rng.choice(["A", "a_b", "-a", "a.b", "", "a" * 64, "ä", "../a", 5])


def bad_namespace(rng: random.Random, document: Document) -> None:
    document["metadata"]["namespace"] = rng.choice(["A", "a/b", 5, "", []])


def bad_label(rng: random.Random, document: Document) -> None:
    document["metadata"]["labels"] = rng.choice(
        [{"a": 1}, {"a": "b c"}, {"a b": "c"}, ["a"], {"a": None}, {"": "a"}]
    )


def misspelt_kind(rng: random.Random, document: Document) -> None:
    document["kind"] = rng.choice(
        [document["kind"].lower(), document["kind"][:-1], document["kind"] + "s", 5, [], ""]
    )


def other_version(rng: random.Random, document: Document) -> None:
    document["apiVersion"] = rng.choice(
        [
            "toolkeeper.dev/v1",
            "toolkeper.dev/v1alpha1",
            "v1alpha1",
            "toolkeeper.dev",
            5,
            {},
            "toolkeeper.dev/",
        ]
    )


SAID: list[Callable[[random.Random, Document], None]] = [
    misspelt_field, invented_field, snake_case, unknown_metadata, number_for_text, truth_for_text, list_for_text,
    text_for_list, text_for_map, map_for_text, text_for_number, text_for_truth, number_out_of_bounds, fraction,
    text_too_long, list_too_long, nothing_in_a_list, control_character, missing_part, missing_name, bad_name,
    bad_namespace, bad_label, misspelt_kind, other_version,
]  # fmt: skip

# Mutations of how it is written: text in, broken text out.


def _line(rng: random.Random, text: str, new: Callable[[str], str]) -> str:
    lines = text.splitlines()
    place = rng.randrange(1, len(lines))
    return "\n".join([*lines[:place], new(lines[place]), *lines[place:]]) + "\n"


WRITTEN: dict[str, Callable[[random.Random, str], str]] = {
    "line twice": lambda rng, text: text + text.splitlines()[rng.randrange(2)] + "\n",
    "tab": lambda rng, text: text.replace("\n  ", "\n\t", 1),
    "raw control character": lambda rng, text: _line(
        rng, text, lambda line: line + rng.choice("\0\x07\x1b\x7f")
    ),
    "open quote": lambda rng, text: text + rng.choice(["x: 'a\n", 'x: "a\n']),
    "open bracket": lambda rng, text: text + rng.choice(["x: [a\n", "x: {a: b\n"]),
    "unknown alias": lambda rng, text: text + "x: *nowhere\n",
    "alias of itself": lambda rng, text: text + "x: &x [*x]\n",
    "tag": lambda rng, text: (
        text + rng.choice(["x: !Ref a\n", "x: !!python/object:os.system a\n", "x: !!binary aa\n"])
    ),
    "two colons": lambda rng, text: text + "x: a: b\n",
    "braces": lambda rng, text: text + "x: {{port}}\n",
    "lost indentation": lambda rng, text: text.replace("\nspec:\n  ", "\nspec:\n ", 1) + "  x: 1\n y: 2\n",
    "deep": lambda rng, text: text + "x: " + "[" * 50 + "]" * 50 + "\n",
    "bomb": lambda rng, text: (
        text + "x: &x [" + "a" * 9000 + "]\ny: &y [" + "*x, " * 99 + "]\nz: [" + "*y, " * 99 + "]\n"
    ),
    "key that is no text": lambda rng, text: text + "? [a, b]\n: c\n",
    "list around it": lambda rng, text: "- " + text.replace("\n", "\n  ").rstrip() + "\n",
    "text only": lambda rng, text: "just text\n",
    "bytes": lambda rng, text: _line(rng, text, lambda line: "# \udcff\udcfe"),
}


def broken(rng: random.Random) -> tuple[str, str]:
    """(name of the mutation, text of one manifest that is certainly invalid)."""
    while True:
        document = copy.deepcopy(rng.choice(ACCEPTED))
        if rng.random() < 0.3:
            name = rng.choice([*WRITTEN])
            return name, WRITTEN[name](rng, print_yaml([document]))
        mutation = rng.choice(SAID)
        try:
            mutation(rng, document)
        except IndexError:
            continue
        return mutation.__name__, print_yaml([document])
