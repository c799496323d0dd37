"""`toolkeeper start`, `stop`, `restart`, `rollback`, `pause`, `resume`: verbs on one resource.

In a store that can be written they change the resource. On an object of a directory they are overrides beside it,
valid until its file is edited or a verb asks for what the file says; `describe` shows them with the patch that makes
them permanent.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from typing import Any

import click
from pydantic import ValidationError

from toolkeeper.cli.opening import namespace_option, run, store_options
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.cli.selecting import missing, one
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, NotFound
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec, RolloutRecord
from toolkeeper.resources.meta import Key
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.kubernetes.owners import managed_by
from toolkeeper.wiring.places import Place
from toolkeeper.wiring.sources import Kept, Scope
from toolkeeper.wiring.stores import inner, opened


def _verb(name: str, text: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(function: Callable[..., Any]) -> click.Command:
        command = store_options(output_option()(namespace_option(function)))
        command = click.argument("what", nargs=-1, required=True, metavar="KIND NAME")(command)
        return click.command(name, help=text, epilog=f"\b\nExample:\n  {example}")(command)

    return decorate


async def _act(
    place: Place,
    key: Key,
    verb: str,
    value: Callable[[Resource], str],
    done: str | Callable[[Resource], str],
    output: str,
) -> None:
    async with opened(place, scope=Scope((key.namespace,), (key.kind,))) as store:
        try:
            current = await store.get(key)
        except NotFound as exc:
            raise click.ClickException(missing(key, (await store.list()).resources)) from exc
        after = await store.patch(key, verb, value(current), actor=getpass.getuser())
        note = await _note(inner(store), after, verb)
    if output != "table":
        write_document(after.model_dump(mode="json", by_alias=True, exclude_none=True), output)
        return
    click.echo(f"{key.kind.lower()}/{key.name} {done if isinstance(done, str) else done(current)}{note}")


async def _note(kept: Kept | None, after: Resource, verb: str) -> str:
    """For how long it holds, where that is not for ever."""
    if isinstance(kept, DirectoryStore):
        overridden = any(each.verb == verb for each in await kept.overrides(after.key))
        told = "until its file is edited; `describe` shows the permanent patch"
        return f" ({told if overridden else 'as its file says'})"
    if kept is None and (owner := managed_by(after)):
        return f" ({owner} manages it and may undo this: make the change in Git, too)"
    return ""


@_verb("start", "Start a stopped server.", "toolkeeper start server time")
def start_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    run(_act(place, one(what, namespace), "run", lambda _: "true", "will run", output))


@_verb("stop", "Stop a server and keep its container.", "toolkeeper stop server time")
def stop_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    run(_act(place, one(what, namespace), "run", lambda _: "false", "will stop", output))


@_verb(
    "restart",
    "Restart a server; its new container takes over when it answers.",
    "toolkeeper restart server time",
)
def restart_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    now = SystemClock().now().isoformat()
    run(_act(place, one(what, namespace), "restart", lambda _: now, _restarts, output))


def _restarts(resource: Resource) -> str:
    if not isinstance(resource, MCPServer):
        return "restarts"
    if not resource.spec.running:
        return "is stopped: it begins anew when it is started"
    return "restarts once it is resumed" if resource.spec.paused else "restarts"


@_verb("pause", "Observe a resource without acting on it.", "toolkeeper pause server time")
def pause_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    run(_act(place, one(what, namespace), "pause", lambda _: "true", "is paused", output))


@_verb("resume", "Act on a paused resource again.", "toolkeeper resume server time")
def resume_command(what: tuple[str, ...], namespace: str, output: str, place: Place) -> None:
    run(_act(place, one(what, namespace), "pause", lambda _: "false", "is no longer paused", output))


@click.option(
    "--to", "revision", type=click.IntRange(1), help="Revision in the history that `describe` shows."
)
def _rollback(what: tuple[str, ...], namespace: str, output: str, place: Place, revision: int | None) -> None:
    def earlier(resource: Resource) -> str:
        return json.dumps(_earlier(resource, revision).spec)

    def done(resource: Resource) -> str:
        record = _earlier(resource, revision)
        return f"returns to revision {record.revision}" + (f" ({record.image})" if record.image else "")

    run(_act(place, one(what, namespace), "rollback", earlier, done, output))


rollback_command = _verb(
    "rollback",
    "Return to an earlier version of a server (by default the last one that worked).",
    "toolkeeper rollback server time --to 2",
)(_rollback)


def _earlier(resource: Resource, revision: int | None) -> RolloutRecord:
    if not isinstance(resource, MCPServer):
        raise Invalid("only servers have a history")
    history = resource.status.history
    if revision is None:
        others = (each for each in reversed(history) if not _is_declared(each, resource))
        record = next((each for each in others if each.outcome == "Succeeded"), None)
        if record is None:
            raise Invalid("no earlier version than what is declared ever worked; name one with --to")
    else:
        record = next((each for each in history if each.revision == revision), None)
        if record is None:
            there = ", ".join(str(each.revision) for each in history) or "none"
            raise Invalid(
                f"revision {revision} is not in the history (it has {there}); `describe` lists them"
            )
    if not record.spec:
        raise Invalid(
            f"the spec of revision {record.revision} was too large to be kept: declare it again yourself"
        )
    return record


def _is_declared(record: RolloutRecord, server: MCPServer) -> bool:
    """Whether it is what is wanted already: restarts and rotated secrets are revisions of the same spec."""
    if record.hash == server.status.wanted_hash:
        return True
    try:
        spec = MCPServerSpec.model_validate(record.spec)
    except ValidationError:
        return False  # of another version of Toolkeeper, or too large to be kept
    return (
        spec.model_copy(update={"running": server.spec.running, "paused": server.spec.paused}) == server.spec
    )
