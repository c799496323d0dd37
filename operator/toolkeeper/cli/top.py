"""`toolkeeper top`."""

from __future__ import annotations

import click

from toolkeeper.cli.opening import run, store_options
from toolkeeper.cli.output import output_option, write_document, write_table
from toolkeeper.errors import ToolkeeperError
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.stores import identity, opened, toolbox_client

EPILOG = """\b
Example:
  toolkeeper top -o json
"""


@click.command("top", epilog=EPILOG)
@output_option()
@store_options
def top_command(output: str, place: Place) -> None:
    """Show CPU and memory of the running servers, as their hosts measure them now."""
    run(_top(place, output))


async def _top(place: Place, output: str) -> None:
    failed = False
    rows: list[dict[str, object]] = []
    async with opened(place) as store:
        resources = (await store.list()).resources
        installation, _ = await identity(store, place)
        names = {
            each.status.container: each
            for each in resources
            if isinstance(each, MCPServer) and each.status.container
        }
        for toolbox in (each for each in resources if isinstance(each, Toolbox)):
            try:
                async with toolbox_client(store, toolbox.metadata.name, toolbox.metadata.namespace) as client:
                    usage = (await (await client.node()).usage(installation)).usage
            except ToolkeeperError as exc:
                failed = True
                click.echo(f"toolbox {toolbox.metadata.name}: {exc}", err=True)
                continue
            for each in usage:
                server = names.get(each.name)
                rows.append(
                    {
                        "namespace": server.metadata.namespace if server else "",
                        "server": server.metadata.name if server else each.name,
                        "toolbox": toolbox.metadata.name,
                        "cpu": round(each.cpu, 3),
                        "memoryBytes": each.memory,
                        "memoryLimitBytes": each.memory_limit,
                        "pids": each.pids,
                    }
                )
    if output != "table":
        write_document(rows, output)
    elif rows:
        write_table(("SERVER", "TOOLBOX", "CPU", "MEMORY", "LIMIT", "PIDS"), [_cells(each) for each in rows])
    elif not failed:
        click.echo(f"nothing runs ({place.name})", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    def mebibytes(value: object) -> str:
        return f"{int(str(value)) / 1048576:.0f}Mi" if value else "-"

    return (
        str(row["server"]), str(row["toolbox"]), f"{float(str(row['cpu'])) * 1000:.0f}m",
        mebibytes(row["memoryBytes"]), mebibytes(row["memoryLimitBytes"]), str(row["pids"]),
    )  # fmt: skip
