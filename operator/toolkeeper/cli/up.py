"""`toolkeeper up`."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import click

from toolkeeper.cli.display import Display, display
from toolkeeper.cli.opening import run
from toolkeeper.cli.output import output_option, write_document
from toolkeeper.cli.progress import arrived, document, hopeless, lines
from toolkeeper.dtma.client import NodeClient
from toolkeeper.errors import ToolkeeperError
from toolkeeper.node.choosing import Needs
from toolkeeper.node.runtime import Runtime
from toolkeeper.planning.observed import Container
from toolkeeper.reconcile.ports import Problem
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.wiring.cleanup import forget_state, remove_all
from toolkeeper.wiring.embedded import Choice, embedded
from toolkeeper.wiring.loop import operator_of
from toolkeeper.wiring.options import LoopOptions, log_of
from toolkeeper.wiring.places import Place, forget, place_of, remember
from toolkeeper.wiring.sole import sole
from toolkeeper.wiring.sources import Source
from toolkeeper.wiring.stores import opened

EPILOG = """\b
Examples:
  toolkeeper up examples/quickstart
  toolkeeper up examples/quickstart --check     # bring up, report, remove; exit 0 if all were ready
  toolkeeper up manifests/ --runtime process --keep
"""
LOOK_SECONDS = 0.25
STALLED_SECONDS = 20.0
"""How long --check waits for servers that wait for somebody to act: one that crashes may only wait for another."""


@click.command("up", epilog=EPILOG)
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--runtime", type=click.Choice(["auto", "docker", "process"]), default="auto", show_default=True,
    help="Containers, or child processes that nothing isolates. auto: Docker if it can be used.",
)  # fmt: skip
@click.option(
    "--check", is_flag=True, help="Bring up, report, remove everything; exit 0 only if all were ready."
)
@click.option("--keep", is_flag=True, help="Leave the servers running at the end, also with --check.")
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(1, 86400),
    help="Seconds until --check gives up; sooner if all that is missing needs somebody to act.",
)
@click.option(
    "--port", default=30000, show_default=True, type=click.IntRange(0, 65535),
    help="Of the node agent, on 127.0.0.1; a free one if taken.",
)  # fmt: skip
@click.option("--allow-prune", is_flag=True, help="Believe an emptied directory.")
@click.option("--installation", envvar="TOOLKEEPER_INSTALLATION", help="Name of this control plane.")
@click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), envvar="TOOLKEEPER_STATE_DIR",
    help="Where status is kept.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["silent", "debug", "info", "warning", "error"]), default="silent"
)
@output_option()
def up_command(
    directory: Path,
    runtime: Choice,
    check: bool,
    keep: bool,
    timeout: float,
    port: int,
    allow_prune: bool,
    installation: str | None,
    state_dir: Path | None,
    log_level: str,
    output: str,
) -> None:
    """Bring up the servers that the manifests in DIRECTORY declare, on this machine, and keep them so.

    Until Ctrl-C or the end of the terminal, which removes them again unless --keep. Package caches and built images
    stay for the next time.
    """
    try:
        place = place_of("directory", directory, state_dir=state_dir, installation=installation)
    except ToolkeeperError as exc:
        raise click.ClickException(str(exc)) from exc
    options = LoopOptions(allow_prune=allow_prune, log_level=log_level)  # type: ignore[arg-type]  # click checked it
    up = Up(place, options, display(quiet=output != "table"), patience=timeout if check else None, keep=keep)
    ready = run(up.run(runtime, port))
    if output != "table":
        write_document(document(up.servers), output)
    if (check and not ready) or up.left:
        raise click.exceptions.Exit(1)


class Up:
    """One run of `up`: node, store and operator in one process, drawn while they converge."""

    def __init__(
        self, place: Place, options: LoopOptions, shown: Display, *, patience: float | None, keep: bool
    ) -> None:
        self._place, self._options, self._shown = place, options, shown
        self._patience, self._keep = patience, keep
        self._stopped = asyncio.Event()
        self.left = ""
        """What could not be removed at the end, and why."""
        self.servers: tuple[MCPServer, ...] = ()

    async def run(self, runtime: Choice, port: int) -> bool:
        """Until Ctrl-C, or until `patience` is over or everything is ready. Returns whether all were ready."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._stopped.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it to go on
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)

        def unread() -> None:
            loop.call_soon_threadsafe(self._stopped.set)

        self._shown.when_unread(unread)
        async with sole(self._place):
            return await self._run(runtime, port)

    def _hang_up(self) -> None:
        """The terminal was closed: nothing can be said any more, and nothing may stay behind."""
        self._shown.hush()
        self._stopped.set()

    async def _run(self, runtime: Choice, port: int) -> bool:
        log, needs = log_of(self._options, installation=self._place.installation), await self._needs()
        async with embedded(self._place, runtime, needs, port=port, log=log) as (node, local):
            self._shown.say(f"runtime: {node.runtime}, because {node.because}")
            self._shown.say(f"node: {local.endpoint}  state: {self._place.folder}")
            client = NodeClient(local.endpoint, token=local.token_file.read_text(encoding="utf-8").strip())
            try:
                async with opened(self._place, allow_prune=self._options.allow_prune, local=local) as store:
                    remember(self._place)
                    ready = await self._operate(store, client)
            finally:
                forget(self._place)
                if self._keep:
                    self._say_kept()
                else:
                    await self._clean(client, node.node.runtime)
                await client.aclose()
        if not self._keep and not self.left:
            forget_state(self._place)
        return ready and not self.left

    async def _needs(self) -> Needs:
        async with opened(self._place) as store:
            servers = [each.spec for each in (await store.list()).resources if isinstance(each, MCPServer)]
        return Needs(frozenset(each.package.registry for each in servers if each.package is not None))

    async def _operate(self, store: Source, client: NodeClient) -> bool:
        log = log_of(self._options, installation=self._place.installation)
        async with operator_of(self._place, store, log, options=self._options) as operator:
            operating = asyncio.create_task(operator.run(), name="operator")
            drawing = asyncio.create_task(self._draw(store, client), name="display")
            stopping = asyncio.create_task(self._stopped.wait())
            try:
                await asyncio.wait({operating, drawing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if operating.done():
                    await operating  # Fenced, or a bug: say it
                return drawing.result() if drawing.done() else self._all_ready()
            finally:
                for task in (operating, drawing, stopping):
                    task.cancel()
                await asyncio.gather(operating, drawing, stopping, return_exceptions=True)

    async def _draw(self, store: Source, client: NodeClient) -> bool:
        """Show what changes; with --check, until all is ready (True) or patience is over (False)."""
        loop = asyncio.get_running_loop()
        until = None if self._patience is None else loop.time() + self._patience
        last_hope = loop.time()
        with self._shown:
            while True:
                problems = await self._look(store, client)
                if not hopeless([each for each in self.servers if each.spec.running]):
                    last_hope = loop.time()
                over = until is not None and (
                    loop.time() > until or loop.time() > last_hope + STALLED_SECONDS
                )
                if until is not None and (over or self._all_ready()) and self.servers:
                    self._shown.finish(self.servers)
                    return self._all_ready() and not problems
                if until is not None and not self.servers:
                    self._shown.say(f"nothing to bring up: {self._place.path} declares no MCPServer")
                    return False
                if self._all_ready():
                    self._shown.finish(self.servers)
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, store: Source, client: NodeClient) -> tuple[Problem, ...]:
        listing = await store.list()
        found = (each for each in listing.resources if isinstance(each, MCPServer))
        self.servers = tuple(sorted(found, key=lambda each: each.key))
        containers: tuple[Container, ...] = ()
        with suppress(ToolkeeperError):
            containers = (await client.state(self._place.installation)).containers
        self._shown.draw(
            lines(self.servers, containers), [f"{p.source}: {p.message}" for p in listing.problems]
        )
        return listing.problems

    def _all_ready(self) -> bool:
        wanted = [each for each in self.servers if each.spec.running]
        return bool(self.servers) and all(map(arrived, wanted))

    def _say_kept(self) -> None:
        count = "1 server" if len(self.servers) == 1 else f"{len(self.servers)} servers"
        self._shown.say(
            f"left running, and not looked after: {count}; "
            f"'toolkeeper up {self._place.path}' takes over again, and removes everything at its end"
        )

    async def _clean(self, client: NodeClient, runtime: Runtime) -> None:
        self._shown.say("removing everything …")
        retained = frozenset(
            f"tk_{self._place.installation}_{each.metadata.namespace}_{each.metadata.name}_{volume.name}"
            for each in self.servers
            if each.spec.reclaim == "Retain"
            for volume in each.spec.volumes
        )
        self.left = await remove_all(client, self._place.installation, keep_volumes=retained)
        try:
            await runtime.leave(self._place.installation)
        except ToolkeeperError as exc:
            self.left = self.left or str(exc)
        if self.left:
            self._shown.say(f"still there: {self.left}")
        elif retained:
            self._shown.say(f"gone; kept volumes (reclaim: Retain): {', '.join(sorted(retained))}")
        else:
            self._shown.say("gone")
