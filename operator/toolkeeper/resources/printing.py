"""Documents → YAML that means the same to every reader: to ours, to kubectl, and to readers of YAML 1.2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from toolkeeper.resources.nodes import Mark, Node

_INVISIBLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What some reader refuses, or takes for the end of a line."""


class _Careful(yaml.SafeDumper):
    """Quotes what any reader would take for something else than text, and uses no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if _INVISIBLE.search(text):
        style: str | None = '"'
    elif "\n" in text:
        style = "|"
    else:
        plain = isinstance(Node("plain", Mark(1, 1), text).meaning(), str)
        style = None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Careful.add_representer(str, _text)


def print_yaml(documents: Iterable[Any]) -> str:
    """The documents (plain JSON values), with `---` between them. `parse_text` reads back exactly these values."""
    text: str = yaml.dump_all(
        list(documents),
        Dumper=_Careful,
        sort_keys=False,
        allow_unicode=True,
        width=110,
        default_flow_style=False,
    )
    return text
