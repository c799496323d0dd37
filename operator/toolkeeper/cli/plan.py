"""`toolkeeper plan`."""

from __future__ import annotations

from pathlib import Path

import click

from toolkeeper.cli.manifests import read, refuse
from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.reconcile.ports import Resource
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.preview import documents, preview
from toolkeeper.wiring.stores import connector, identity, opened

EPILOG = """\b
Examples:
  toolkeeper plan                      # what the operator would do now
  toolkeeper plan -f server.yaml       # what it would do if this were applied
"""


@click.command("plan", epilog=EPILOG)
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path, allow_dash=True),
    help="As if these manifests had been applied: a file, a directory, or -.",
)  # fmt: skip
@click.option("--allow-prune", is_flag=True, help="As with the operator's option.")
@namespace_option
@output_option()
@store_options
def plan_command(
    files: tuple[Path, ...], allow_prune: bool, namespace: str, output: str, place: Place
) -> None:
    """Print what would happen, and change nothing. Exits 1 when a toolbox could not be seen.

    -n is for manifests that name no namespace.
    """
    manifests = read(files)
    refuse(manifests)
    wanted = tuple(_within(namespace, each) for each in manifests.resources)
    run(_plan(place, wanted, allow_prune, output))


def _within(namespace: str, resource: Resource) -> Resource:
    if "namespace" in resource.metadata.model_fields_set:
        return resource
    return resource.model_copy(
        update={"metadata": resource.metadata.model_copy(update={"namespace": namespace})}
    )


async def _plan(place: Place, wanted: tuple[Resource, ...], allow_prune: bool, output: str) -> None:
    async with opened(place, allow_prune=allow_prune) as store:
        installation, digest_key = await identity(store, place)
        found = await preview(
            store,
            wanted,
            connector(store),
            installation=installation,
            digest_key=digest_key,
            allow_prune=allow_prune,
        )
    if output != "table":
        write_document(documents(found), output)
    else:
        for key in found.assumed:
            click.echo(f"toolbox {key.name} does not run here yet; planned as if it were empty", err=True)
        for _, plan in sorted(found.plans.items()):
            click.echo(str(plan))
        for key, why in sorted(found.unseen.items()):
            click.echo(f"{key.namespace}/{key.name}:\n  cannot be seen: {why}")
        for key, why in sorted(found.unplaced.items()):
            click.echo(f"{key.namespace}/{key.name} is placed nowhere: {why}")
        if not (found.plans or found.unseen or found.unplaced):
            click.echo(f"nothing is declared ({place.name})", err=True)
    if found.unseen:
        raise click.exceptions.Exit(1)
