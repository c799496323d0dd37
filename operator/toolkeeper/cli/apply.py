"""`toolkeeper apply`."""

from __future__ import annotations

from pathlib import Path

import click

from toolkeeper.cli.manifests import read, refuse
from toolkeeper.cli.opening import run, store_options
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.errors import NotFound
from toolkeeper.reconcile.ports import Resource
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.stores import opened, writable

EPILOG = """\b
Examples:
  toolkeeper apply -f server.yaml
  cat server.yaml | toolkeeper apply -f -
"""


@click.command("apply", epilog=EPILOG)
@click.option(
    "-f", "--file", "files", multiple=True, required=True, type=click.Path(path_type=Path, allow_dash=True),
    help="A manifest, a directory of them, or - for standard input.",
)  # fmt: skip
@output_option()
@store_options
def apply_command(files: tuple[Path, ...], output: str, place: Place) -> None:
    """Create or change resources from manifests. Nothing is applied unless everything can be read."""
    manifests = read(files)
    refuse(manifests)
    run(_apply(place, manifests.resources, output))


async def _apply(place: Place, resources: tuple[Resource, ...], output: str) -> None:
    done = []
    async with opened(place) as store:
        target = writable(store)
        for each in resources:
            try:
                before: Resource | None = await target.get(each.key)
            except NotFound:
                before = None
            after = await target.apply(each)
            verb = "created" if before is None else "unchanged" if after == before else "configured"
            done.append((after, verb))
            if output == "table":
                click.echo(f"{each.kind.lower()}/{each.metadata.name} {verb}")
    if output != "table":
        write_document(
            [
                {
                    "kind": each.kind,
                    "namespace": each.metadata.namespace,
                    "name": each.metadata.name,
                    "result": verb,
                }
                for each, verb in done
            ],
            output,
        )
