"""`toolkeeper get`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import click

from toolkeeper.cli.documents import concerning, document
from toolkeeper.cli.opening import namespace_option, run, store_options, warn_of_age
from toolkeeper.cli.output import output_option, table, write_document
from toolkeeper.cli.selecting import kinds_and_names, missing
from toolkeeper.cli.views import listing
from toolkeeper.clock import SystemClock
from toolkeeper.reconcile.ports import Listing, Resource
from toolkeeper.resources.meta import Key
from toolkeeper.stores.declared import Declared, short
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.sources import Scope, Source
from toolkeeper.wiring.stores import declarations, opened

EPILOG = """\b
Examples:
  toolkeeper get servers
  toolkeeper get servers,toolboxes
  toolkeeper get all
  toolkeeper get server time -o yaml
  toolkeeper get servers -w -o wide
  toolkeeper get servers -A --store kubernetes
"""


PRINTED = ("table", "wide")
"""The formats for people."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see, and how."""

    kinds: Sequence[str]
    """Each in a block of its own, in this order."""
    names: Sequence[str]
    namespace: str | None
    """None: all."""
    output: str

    def means(self, resource: Resource) -> bool:
        """Whether the resource is one of them."""
        return (
            resource.kind in self.kinds
            and (not self.names or resource.metadata.name in self.names)
            and self.namespace in (None, resource.metadata.namespace)
        )

    @property
    def mixed(self) -> bool:
        """Whether they are of several kinds."""
        return len(self.kinds) > 1


class Sources(NamedTuple):
    """What declares the resources, where that are files."""

    of: Mapping[Key, Declared]
    synced: str
    """The commit in force."""


@click.command("get", epilog=EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="KIND[,KIND...] [NAME...]")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing what changes, until Ctrl-C.")
@output_option("wide", "name")
@store_options
def get_command(
    what: tuple[str, ...], namespace: str, all_namespaces: bool, watch: bool, output: str, place: Place
) -> None:
    """List resources of KIND (server, toolbox, connection, or all) and their state."""
    kinds, names = kinds_and_names(what)
    asked = Asked(kinds, names, None if all_namespaces else namespace, output)
    run(_get(place, asked, watch=watch))


async def _get(place: Place, asked: Asked, *, watch: bool) -> None:
    scope = Scope((asked.namespace,) if asked.namespace else (), tuple(asked.kinds))
    async with opened(place, scope=scope) as store:
        found = await store.list()
        warned = _warn(found, asked, frozenset())
        chosen = _chosen(found.resources, asked)
        _print(chosen, asked, await _sources(store, found))
        if asked.output in PRINTED:
            warn_of_age(place, chosen)
        if not chosen and asked.output in PRINTED:
            where = f" in namespace {asked.namespace}" if asked.namespace else ""
            click.echo(f"no {' or '.join(asked.kinds)}{where} ({place.name})", err=True)
        printed = {each.key: each for each in chosen}
        if not watch:
            return
        async for _ in store.watch():
            found = await store.list()
            warned = _warn(found, asked, warned)
            news = [each for each in found.resources if asked.means(each) and printed.get(each.key) != each]
            for key in sorted(printed.keys() - {each.key for each in found.resources}):
                del printed[key]
                click.echo(f"{key.kind.lower()}/{key.name} is gone", err=asked.output not in PRINTED)
            printed |= {each.key: each for each in news}
            if news:
                _print(news, asked, await _sources(store, found), more=True)


async def _sources(store: Source, found: Listing) -> Sources:
    return Sources(await declarations(store), found.revision)


def _warn(found: Listing, asked: Asked, warned: frozenset[str]) -> frozenset[str]:
    """What is shown may not be what was declared last: say why, beside the answer."""
    now = frozenset(each for kind in asked.kinds for each in concerning(found, kind))
    for each in sorted(now - warned):
        click.echo(f"Warning: {each}", err=True)
    return now


def _chosen(resources: Sequence[Resource], asked: Asked) -> list[Resource]:
    there = sorted(
        (each for each in resources if asked.means(each)),
        key=lambda each: (asked.kinds.index(each.kind), each.key),
    )
    by_name = {each.metadata.name: each for each in there}
    for name in asked.names:
        if name not in by_name:
            raise click.ClickException(
                missing(Key(asked.kinds[0], asked.namespace or "default", name), resources)
            )
    return [by_name[name] for name in asked.names] if asked.names else there


def _print(resources: Sequence[Resource], asked: Asked, sources: Sources, *, more: bool = False) -> None:
    """The resources; `more` of them, after others."""
    if asked.output == "name":
        for each in resources:
            click.echo(f"{each.kind.lower()}/{each.metadata.name}")
    elif asked.output in ("json", "yaml"):
        documents = [document(each, sources.of.get(each.key), sources.synced) for each in resources]
        single = (more or len(asked.names) == 1) and len(documents) == 1
        write_document(
            documents[0] if single else {"apiVersion": "v1", "kind": "List", "items": documents},
            asked.output,
        )
    elif resources:
        click.echo("\n" * (more and asked.mixed) + "\n\n".join(_blocks(resources, asked, sources, more=more)))


def _blocks(resources: Sequence[Resource], asked: Asked, sources: Sources, *, more: bool) -> Iterator[str]:
    """A table for each kind of which there is something. More rows of the only kind need no header again."""
    for kind in asked.kinds:
        own = [each for each in resources if each.kind == kind]
        if not own:
            continue
        columns, rows = listing(
            kind,
            own,
            SystemClock().now(),
            wide=asked.output == "wide",
            namespaces=asked.namespace is None,
            mixed=asked.mixed,
            commits={key: short(each.revision) for key, each in sources.of.items() if each.revision},
        )
        text = table(columns, rows)
        yield "\n".join(text.splitlines()[1:]) if more and not asked.mixed else text
