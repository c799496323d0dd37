"""`toolkeeper get`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.output import output_option, table, write_document
from toolkeeper.cli.selecting import kind_and_names, missing
from toolkeeper.cli.views import listing
from toolkeeper.clock import SystemClock
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.meta import Key
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.stores import opened

EPILOG = """\b
Examples:
  toolkeeper get servers
  toolkeeper get server time -o yaml
  toolkeeper get servers -w -o wide
"""


@click.command("get", epilog=EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="KIND [NAME...]")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing what changes, until Ctrl-C.")
@output_option("wide", "name")
@store_options
def get_command(
    what: tuple[str, ...], namespace: str, all_namespaces: bool, watch: bool, output: str, place: Place
) -> None:
    """List resources of KIND (server, toolbox, connection) and their state."""
    kind, names = kind_and_names(what) if len(what) > 1 or "/" in what[0] else (_kind(what[0]), ())
    run(_get(place, kind, names, None if all_namespaces else namespace, watch=watch, output=output))


def _kind(word: str) -> str:
    from toolkeeper.cli.selecting import kind_of  # noqa: PLC0415 – the common case needs both

    return kind_of(word)


async def _get(
    place: Place, kind: str, names: Sequence[str], namespace: str | None, *, watch: bool, output: str
) -> None:
    async with opened(place) as store:
        found = _chosen((await store.list()).resources, kind, names, namespace)
        _print(found, kind, output, namespaces=namespace is None, single=len(names) == 1)
        printed = {each.key: each for each in found}
        if not watch:
            return
        async for _ in store.watch():
            there = [each for each in (await store.list()).resources if each.kind == kind]
            news = [
                each
                for each in there
                if (not names or each.metadata.name in names)
                and namespace in (None, each.metadata.namespace)
                and printed.get(each.key) != each
            ]
            printed |= {each.key: each for each in news}
            if news:
                _print(news, kind, output, namespaces=namespace is None, single=True, header=False)


def _chosen(
    resources: Sequence[Resource], kind: str, names: Sequence[str], namespace: str | None
) -> list[Resource]:
    there = sorted(
        (each for each in resources if each.kind == kind and namespace in (None, each.metadata.namespace)),
        key=lambda each: each.key,
    )
    if not names:
        return there
    by_name = {each.metadata.name: each for each in there}
    for name in names:
        if name not in by_name:
            raise click.ClickException(missing(Key(kind, namespace or "default", name), resources))
    return [by_name[name] for name in names]


def _print(
    resources: Sequence[Resource],
    kind: str,
    output: str,
    *,
    namespaces: bool,
    single: bool,
    header: bool = True,
) -> None:
    if output == "name":
        for each in resources:
            click.echo(f"{kind.lower()}/{each.metadata.name}")
    elif output in ("json", "yaml"):
        documents = [
            each.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=False)
            for each in resources
        ]
        write_document(
            documents[0]
            if single and len(documents) == 1
            else {"apiVersion": "v1", "kind": "List", "items": documents},
            output,
        )
    elif not resources:
        click.echo(f"no {kind} here", err=True)
    else:
        columns, rows = listing(
            kind, resources, SystemClock().now(), wide=output == "wide", namespaces=namespaces
        )
        text = table(columns, rows)
        click.echo(text if header else "\n".join(text.splitlines()[1:]))
