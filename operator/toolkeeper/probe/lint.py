"""Advisory checks over tool definitions: text that steers a model, or that a person cannot see.

Findings inform and never block: "instead of" and "you must" are honest English more often than an attack.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from toolkeeper.probe.definitions import PINNED_FIELDS

MOST_FINDINGS = 20

_JOINER = "\u200d"
_JOINED_AFTER = {"So", "Sk", "Mn"}  # an emoji, its skin tone, its variation selector
# label: words of which one must occur (looked for first, because it is a hundred times cheaper), pattern
_INSTRUCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "ignore-earlier": (
        ("instruct",),
        r"\b(ignore|disregard|forget)\b.{0,30}\b(previous|prior|above|earlier|other)\b.{0,30}\binstruct",
    ),
    "markup": (("<",), r"<\s*/?\s*(important|system|instructions?|secret|hidden)\s*>"),
    "keep-from-user": (
        ("user", "human", "anyone"),
        r"\b(do not|don't|never|without)\b.{0,20}\b(tell|mention|inform|show|notify|reveal)(ing)?\b.{0,30}"
        r"\b(user|human|anyone)\b",
    ),
    "steers-other-tools": (
        ("any tool", "any other tool", "another tool", "other tools", "all tools"),
        r"\b(before|after|when|whenever|instead of)\b.{0,20}"
        r"\b(using|calling|invoking|you (use|call))\b.{0,20}\btools?\b",
    ),
    "system-prompt": (("prompt",), r"\b(system|developer) prompt\b"),
    "secret-files": (
        ("~/.", "id_rsa", "id_ed25519", "mcp.json", "/etc/"),
        r"~/\.(ssh|aws|kube|cursor|config)\b|\bid_(rsa|ed25519)\b|\bmcp\.json\b|/etc/(passwd|shadow)\b",
    ),
    "asks-for-secrets": (
        ("key", "password", "credential", "access token", "conversation"),
        r"\b(pass|include|send|attach|read|append)\b.{0,60}\b(api[ _-]?keys?|passwords?|private keys?|credentials|"
        r"access tokens?|conversation history)\b",
    ),
    "covert": (("secretly", "silently", "covertly"), r"\b(secretly|silently|covertly)\b"),
    "copies-mail": (("@",), r"\b(bcc|forward (all|every))\b.{0,60}@"),
}
_PATTERNS = [(label, words, re.compile(pattern)) for label, (words, pattern) in _INSTRUCTIONS.items()]


def findings(tools: Sequence[Mapping[str, Any]], instructions: str = "") -> tuple[str, ...]:
    """Every finding once, as `Kind: tool name (detail)`; past `MOST_FINDINGS` a last line counts the rest."""
    found = list(dict.fromkeys((*_duplicates(tools), *_texts(tools, instructions))))
    if len(found) <= MOST_FINDINGS:
        return tuple(found)
    return (*found[:MOST_FINDINGS], f"MoreFindings: {len(found) - MOST_FINDINGS}")


def printable(text: str, most: int) -> str:
    """`text` on one line without anything invisible, and no longer than `most` characters."""
    shown = text if text.isascii() and text.isprintable() else "".join(map(_visible, text[: most + 1]))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _duplicates(tools: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    names = Counter(str(tool["name"]) for tool in tools)
    return (
        f"DuplicateName: tool {printable(name, 64)} ({count} times)"
        for name, count in names.items()
        if count > 1
    )


def _texts(tools: Iterable[Mapping[str, Any]], instructions: str) -> Iterator[str]:
    for tool in tools:
        name = printable(str(tool["name"]), 64)
        yield from _judge(f"tool {name}", _strings({field: tool.get(field) for field in PINNED_FIELDS}))
    yield from _judge("instructions", [instructions])


def _judge(where: str, texts: Iterable[str]) -> Iterator[str]:
    lines = "\n".join(text.replace("\n", " ") for text in texts)  # a pattern's `.` stays within one text
    if hidden := _hidden(lines):
        yield f"HiddenCharacters: {where} (U+{ord(hidden):04X})"
    lowered = lines.lower()
    for label, words, pattern in _PATTERNS:
        if any(word in lowered for word in words) and pattern.search(lowered):
            yield f"InstructionLikeText: {where} ({label})"


def _strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, keys of objects included: a model reads those as well."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield str(key)
                yield from _strings(inner)
        case list():
            for inner in value:
                yield from _strings(inner)


def _hidden(text: str) -> str:
    """The first character that a person would not see, or nothing."""
    suspects = {character for character in set(text) if unicodedata.category(character) in {"Cf", "Co", "Cc"}}
    if not (suspects := suspects - set("\t\n\r")):
        return ""
    for before, character in pairwise(f" {text}"):
        joins = character == _JOINER and unicodedata.category(before) in _JOINED_AFTER
        if character in suspects and not joins:
            return character
    return ""


def _visible(character: str) -> str:
    return character if character.isprintable() else f"\\u{ord(character):04x}"
