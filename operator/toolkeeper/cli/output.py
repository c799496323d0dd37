"""How answers are printed: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import click


def output_option(*extra: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-o table|json|yaml`, and what a command adds (`wide`, `name`)."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml", *extra]),
        default="table",
        show_default=True,
        help="Format of the answer.",
    )


def write_document(document: object, output: str) -> None:
    """Print one document as JSON or YAML."""
    if output == "yaml":
        from toolkeeper.resources.printing import print_yaml  # noqa: PLC0415 – only for YAML

        click.echo(print_yaml([document]).rstrip())
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as they need to be, like kubectl does."""
    click.echo(table(header, rows))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The text of a table; no trailing blanks."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def age(since: datetime | None, now: datetime) -> str:
    """A duration as kubectl prints it: `5s`, `3m`, `2h`, `4d`; `-` when it is not known."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
