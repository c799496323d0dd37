"""`toolkeeper version`."""

from __future__ import annotations

import platform

import click

from toolkeeper import __version__
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.resources.meta import API_VERSION


@click.command("version", epilog="\b\nExample:\n  toolkeeper version -o json")
@output_option()
def version_command(output: str) -> None:
    """Print the version."""
    facts = {"toolkeeper": __version__, "apiVersion": API_VERSION, "python": platform.python_version()}
    if output == "table":
        click.echo(f"toolkeeper {__version__} ({API_VERSION}, Python {facts['python']})")
    else:
        write_document(facts, output)
