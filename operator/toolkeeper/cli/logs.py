"""`toolkeeper logs`."""

from __future__ import annotations

import click

from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.selecting import missing, one
from toolkeeper.errors import NotFound
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.sources import Scope
from toolkeeper.wiring.stores import opened, toolbox_client

EPILOG = """\b
Examples:
  toolkeeper logs time
  toolkeeper logs server time -f --tail 20
"""


@click.command("logs", epilog=EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="[server] NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on until the server ends or Ctrl-C.")
@click.option(
    "--tail", default=100, show_default=True, type=click.IntRange(0, 100_000), help="Lines to begin with."
)
@namespace_option
@store_options
def logs_command(what: tuple[str, ...], follow: bool, tail: int, namespace: str, place: Place) -> None:
    """Print what a server wrote. Values that came from secrets are masked by its host."""
    run(_logs(place, one(what, namespace), tail=tail, follow=follow))


async def _logs(place: Place, key: Key, *, tail: int, follow: bool) -> None:
    async with opened(place, scope=Scope((key.namespace,), (key.kind,))) as store:
        try:
            server = await store.get(key)
        except NotFound as exc:
            raise click.ClickException(missing(key, (await store.list()).resources)) from exc
        if not isinstance(server, MCPServer):
            raise click.UsageError("only servers have logs")
        if not server.status.container:
            raise click.ClickException(f"{key.name} has no container yet; `toolkeeper describe` says why")
        async with toolbox_client(store, server.status.toolbox, key.namespace) as client:
            async for line in client.logs(server.status.container, tail=tail, follow=follow):
                click.echo(line)
