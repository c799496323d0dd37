"""`toolkeeper events`."""

from __future__ import annotations

import click
from click.core import ParameterSource

from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.output import age, output_option, write_document, write_table
from toolkeeper.cli.selecting import missing, one
from toolkeeper.clock import SystemClock
from toolkeeper.resources.meta import Key
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.sources import Scope
from toolkeeper.wiring.stores import opened

EPILOG = """\b
Examples:
  toolkeeper events
  toolkeeper events server time -o json
"""


@click.command("events", epilog=EPILOG)
@click.argument("what", nargs=-1, metavar="[KIND NAME]")
@namespace_option
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="How many at most."
)
@output_option()
@store_options
def events_command(what: tuple[str, ...], namespace: str, limit: int, output: str, place: Place) -> None:
    """List what happened, newest last: to one resource, or to all (with -n: of that namespace)."""
    said = click.get_current_context().get_parameter_source("namespace") is ParameterSource.COMMANDLINE
    within = namespace if said or what else None
    run(_events(place, one(what, namespace) if what else None, within, limit, output))


async def _events(place: Place, key: Key | None, within: str | None, limit: int, output: str) -> None:
    async with opened(place, scope=Scope((within,) if within else ())) as store:
        events = [
            each
            for each in await store.events(key, limit=limit)
            if within in (None, each.event.key.namespace)
        ]
        there = (await store.list()).resources if key is not None and not events else ()
        if key is not None and not events and key not in {each.key for each in there}:
            raise click.ClickException(missing(key, there))
    if output == "table":
        now = SystemClock().now()
        rows = [
            (
                age(each.last_at, now),
                str(each.count),
                each.event.type,
                f"{each.event.key.kind.lower()}/{each.event.key.name}",
                each.event.reason,
                each.event.message,
            )
            for each in events
        ]
        if rows:
            write_table(("AGE", "COUNT", "TYPE", "OBJECT", "REASON", "MESSAGE"), rows)
        else:
            click.echo(f"no events yet ({place.name})", err=True)
        return
    write_document(
        [
            {
                "at": each.last_at.isoformat(),
                "firstAt": each.first_at.isoformat(),
                "count": each.count,
                "type": each.event.type,
                "kind": each.event.key.kind,
                "namespace": each.event.key.namespace,
                "name": each.event.key.name,
                "reason": each.event.reason,
                "message": each.event.message,
            }
            for each in events
        ],
        output,
    )
