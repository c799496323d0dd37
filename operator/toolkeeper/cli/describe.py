"""`toolkeeper describe`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from toolkeeper.cli.documents import concerning, document
from toolkeeper.cli.opening import namespace_option, run, store_options, warn_of_age
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.cli.selecting import missing, one
from toolkeeper.cli.views import Happening, describe
from toolkeeper.clock import SystemClock
from toolkeeper.errors import NotFound, Refused
from toolkeeper.reconcile.ports import Listing
from toolkeeper.resources.meta import Key
from toolkeeper.resources.reasons import remedy
from toolkeeper.stores.declared import short
from toolkeeper.stores.journal import Recorded
from toolkeeper.stores.overrides import PATCHES, Override
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.sources import Scope, Source
from toolkeeper.wiring.stores import declaration, opened, overrides

EPILOG = """\b
Examples:
  toolkeeper describe server time
  toolkeeper describe toolbox local
"""


@click.command("describe", epilog=EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="KIND NAME")
@namespace_option
@output_option()
@store_options
def describe_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    """Say everything about one resource: state, conditions, history, events, and what to do about problems."""
    run(_describe(place, one(what, namespace), output))


def _patch(override: Override) -> str:
    """The edit of the file that makes the override permanent, as one line of JSON."""
    patch = PATCHES[override.verb](override.value)
    document = {
        **({"metadata": {"annotations": dict(patch.annotations)}} if patch.annotations else {}),
        **({"spec": dict(patch.spec)} if patch.spec else {}),
    }
    return json.dumps(document, ensure_ascii=False)


async def _events(store: Source, key: Key) -> Sequence[Recorded]:
    """What happened to it. Whoever may not read events is told everything else."""
    try:
        return await store.events(key)
    except Refused as exc:
        click.echo(f"Warning: {exc}", err=True)
        return ()


async def _describe(place: Place, key: Key, output: str) -> None:
    async with opened(place, scope=Scope((key.namespace,), (key.kind,))) as store:
        try:
            resource = await store.get(key)
        except NotFound as exc:
            raise click.ClickException(missing(key, (await store.list()).resources)) from exc
        listing, events = await store.list(), await _events(store, key)
        if output != "table":
            said = document(resource, await declaration(store, key), listing.revision)
            said["problems"] = concerning(listing, key.kind, key)
            said["events"] = [
                {
                    "type": each.event.type,
                    "reason": each.event.reason,
                    "message": each.event.message,
                    "count": each.count,
                    "lastAt": each.last_at.isoformat(),
                }
                for each in events
            ]
            write_document(said, output)
            return
        happened = [
            Happening(each.last_at, each.count, each.event.type, each.event.reason, each.event.message)
            for each in events
        ]
        click.echo(
            describe(
                resource, happened, SystemClock().now(), remedy, await _origin(place, store, key, listing)
            )
        )
        warn_of_age(place, [resource])


async def _origin(place: Place, store: Source, key: Key, listing: Listing) -> list[str]:
    """Where its declaration comes from, and what stands beside or against it."""
    lines = []
    for each in await overrides(store, key):
        lines += [
            f"Override:     {each.verb} by {each.actor or 'somebody'}, until its file is edited",
            f"  permanent with: {_patch(each)}",
        ]
    declared = await declaration(store, key)
    if declared is not None:
        since = f", since commit {short(declared.revision)}" if declared.revision else ""
        lines.append(f"Declared in:  {declared.path}{since}")
    if place.git is not None:
        lines.append(f"Pulled from:  {place.git}, commit {short(listing.revision) or 'none yet'}")
    return [*lines, *(f"Problem:      {problem}" for problem in concerning(listing, key.kind, key))]
