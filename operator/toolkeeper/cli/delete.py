"""`toolkeeper delete`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from toolkeeper.cli.manifests import read, refuse
from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.selecting import kind_and_names
from toolkeeper.errors import NotFound
from toolkeeper.resources.meta import Key
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.stores import opened, writable

EPILOG = """\b
Examples:
  toolkeeper delete server time
  toolkeeper delete -f server.yaml --wait
"""


@click.command("delete", epilog=EPILOG)
@click.argument("what", nargs=-1, metavar="[KIND NAME...]")
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path, allow_dash=True),
    help="Delete what these manifests declare.",
)  # fmt: skip
@click.option("--wait/--no-wait", default=False, help="Return only when what ran for it is gone.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait at most.")
@namespace_option
@store_options
def delete_command(
    what: tuple[str, ...], files: tuple[Path, ...], wait: bool, timeout: float, namespace: str, place: Place
) -> None:
    """Delete resources; the operator then removes what runs for them."""
    if bool(what) == bool(files):
        raise click.UsageError("name resources, or manifests with -f")
    if files:
        manifests = read(files)
        refuse(manifests)
        keys = [each.key for each in manifests.resources]
    else:
        kind, names = kind_and_names(what)
        if not names:
            raise click.UsageError(f"name the {kind} to delete")
        keys = [Key(kind, namespace, name) for name in names]
    run(_delete(place, keys, timeout if wait else None))


async def _delete(place: Place, keys: list[Key], patience: float | None) -> None:
    absent = []
    async with opened(place) as store:
        target = writable(store)
        for key in keys:
            try:
                await target.delete(key)
            except NotFound:
                absent.append(key)
                click.echo(f"{key.kind.lower()}/{key.name} does not exist", err=True)
            else:
                click.echo(f"{key.kind.lower()}/{key.name} deleted")
        if patience is not None:
            await _gone(target, [key for key in keys if key not in absent], patience)
    if absent:
        raise click.exceptions.Exit(1)


async def _gone(store: SqliteStore, keys: list[Key], patience: float) -> None:
    async def all_gone() -> bool:
        there = {each.key for each in (await store.list()).resources}
        return not any(key in there for key in keys)

    try:
        async with asyncio.timeout(patience):
            changes = store.watch()
            if await all_gone():
                return
            async for _ in changes:
                if await all_gone():
                    return
    except TimeoutError as exc:
        raise click.ClickException(
            f"still there after {patience:g} s; `toolkeeper describe` says what it waits for (is an operator running?)"
        ) from exc
