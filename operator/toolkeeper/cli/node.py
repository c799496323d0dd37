"""`toolkeeper node`, `toolkeeper node enroll`."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from pathlib import Path
from urllib.parse import urlsplit

import click

from toolkeeper.cli.opening import run
from toolkeeper.cli.output import write_document
from toolkeeper.clock import SystemClock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.node.certificate import fingerprint_of
from toolkeeper.node.enrolment import enrol
from toolkeeper.node.main import certificate_of, prepare
from toolkeeper.node.main import run as serve
from toolkeeper.node.settings import NodeSettings, is_loopback, settings_from

EPILOG = """\b
Examples:
  toolkeeper node --host 0.0.0.0
  toolkeeper node enroll --endpoint https://toolbox-1.example.com:30000

Every option is also a variable, such as TOOLKEEPER_NODE_HOST.
"""
ENROLL_EPILOG = """\b
Example:
  toolkeeper node enroll --endpoint https://toolbox-1.example.com:30000 > toolbox.yaml
"""


@click.group("node", invoke_without_command=True, epilog=EPILOG)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Token, certificate, epochs. Default: /var/lib/toolkeeper/node.",
)
@click.option("--host", help="Address that the API listens on. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port. Default: 30000.")
@click.option("--runtime", type=click.Choice(["auto", "docker", "process"]), help="Default: auto.")
@click.option(
    "--tls",
    type=click.Choice(["auto", "on", "off"]),
    help="auto (default): on, except on loopback without a certificate of your own.",
)
@click.option(
    "--tls-certificate", type=click.Path(path_type=Path), help="In place of the generated one (PEM)."
)
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--log-format", type=click.Choice(["json", "console"]), help="Default: json.")
@click.pass_context
def node_command(ctx: click.Context, /, **flags: object) -> None:
    """Run the host agent until Ctrl-C. Servers go on running without it."""
    try:
        settings = settings_from(os.environ, **flags)
    except ToolkeeperError as exc:
        raise click.ClickException(str(exc)) from exc
    ctx.obj = settings
    if ctx.invoked_subcommand is None:
        run(_serve(settings))


async def _serve(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await serve(
        settings,
        clock=SystemClock(),
        environ=os.environ,
        stop=stop,
        say=lambda line: click.echo(line, err=True),
    )


@node_command.command("enroll", epilog=ENROLL_EPILOG)
@click.option("--endpoint", required=True, help="URL under which operators reach this node.")
@click.option("--name", help="Name of the Toolbox. Default: this machine's name.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Its namespace.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="What the node was started with. Default: as it has."
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.pass_obj
def enroll_command(
    settings: NodeSettings,
    endpoint: str,
    name: str | None,
    namespace: str,
    state_dir: Path | None,
    output: str,
) -> None:
    """Print the Toolbox manifest of this host, and the one command that delivers its token.

    The manifest goes to standard output, the command to standard error; the token itself is printed nowhere.
    """
    if state_dir is not None:
        settings = settings.model_copy(update={"state_dir": state_dir.absolute()})
    if not settings.tokens.exists():
        click.echo(
            f"no node has run with {settings.state_dir} yet: start it with that --state-dir, "
            "or it shows another certificate and wants another token",
            err=True,
        )
    try:
        prepare(settings)
        # The node shows this certificate once it listens on more than loopback, or with --tls on.
        encrypted = settings.model_copy(update={"tls": "on"})
        tls = certificate_of(encrypted, SystemClock()) if endpoint.startswith("https://") else None
    except ToolkeeperError as exc:
        raise click.ClickException(str(exc)) from exc
    host = platform.node() or "toolbox"
    found = enrol(
        name=name or settings.name or host.split(".")[0].lower(),
        namespace=namespace,
        endpoint=endpoint,
        fingerprint=fingerprint_of(tls[0]) if tls else "",
        token_file=str(settings.tokens),
        host=host,
    )
    _must_be_a_toolbox(found.manifest)
    if output == "json":
        write_document({"manifest": found.manifest, "command": found.command}, output)
        return
    click.echo(found.manifest, nl=False)
    click.echo(
        f"deliver its token to a cluster with:\n  {found.command}\n"
        "or to an operator without one, as the file that 'toolkeeper describe toolbox' names there",
        err=True,
    )
    there = urlsplit(endpoint).hostname
    if settings.loopback and there and not is_loopback(there):
        click.echo(
            "let the node listen there, for by itself it listens on loopback only: toolkeeper node --host 0.0.0.0",
            err=True,
        )


def _must_be_a_toolbox(manifest: str) -> None:
    """Names and the endpoint come from the command line: say here what the operator would refuse there."""
    from toolkeeper.resources.parse import parse_text  # noqa: PLC0415 – a node itself knows no resources

    problems = parse_text(manifest, "this Toolbox").problems
    if problems:
        raise click.ClickException("; ".join(f"{each.field}: {each.message}" for each in problems))
