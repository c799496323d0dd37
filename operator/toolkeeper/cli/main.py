"""The `toolkeeper` command. Every subcommand is imported only when it is called, so `--help` stays quick."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from toolkeeper import __version__
from toolkeeper.errors import ToolkeeperError

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module under toolkeeper.cli, the line in --help), in the order in which people meet them
    "up": ("up", "Bring up the servers of a directory on this machine."),
    "plan": ("plan", "Print what would happen, and change nothing."),
    "apply": ("apply", "Create or change resources from manifests."),
    "delete": ("delete", "Delete resources, and what runs for them."),
    "get": ("get", "List resources and their state."),
    "describe": ("describe", "Say everything about one resource."),
    "logs": ("logs", "Print what a server wrote."),
    "events": ("events", "List what happened, newest last."),
    "top": ("top", "Show CPU and memory of running servers."),
    "start": ("acts", "Start a stopped server."),
    "stop": ("acts", "Stop a server and keep its container."),
    "restart": ("acts", "Restart a server."),
    "rollback": ("acts", "Return to an earlier version of a server."),
    "pause": ("acts", "Observe a server without acting on it."),
    "resume": ("acts", "Act on a paused server again."),
    "operator": ("operator", "Run the reconcile loop."),
    "retire": ("retire", "Let go of a cluster's objects, before its operator is uninstalled."),
    "node": ("node", "Run the host agent."),
    "crds": ("crds", "Write the CustomResourceDefinitions and JSON Schemas."),
    "completion": ("completion", "Print the shell's completion script."),
    "version": ("version", "Print the version."),
}

UNADORNED = frozenset({"operator", "node"})
"""Commands that run for months and draw nothing."""
ADORNMENT = ("rich", "pygments")
"""What httpx and structlog import where they find it, for a command line and for tracebacks that are never seen in
these commands: 5 MB. Neither has a setting for it."""


INTERRUPTED = 130


class Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"toolkeeper.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 – only when something is misspelt

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else " See 'toolkeeper --help'."
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


EPILOG = """\b
Example:
  toolkeeper up examples/quickstart
"""


@click.group(cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="toolkeeper")
def cli() -> None:
    """Keep MCP servers in the state you declared."""


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line. Exit codes: 0 done, 1 failed (said why on stderr), 2 wrong usage, 130 interrupted."""
    if args is None and UNADORNED.intersection(sys.argv[1:2]):
        for package in ADORNMENT:
            sys.modules[package] = None  # type: ignore[assignment]  # to import it is an ImportError now
    sys.exit(_outcome(lambda: cli.main(args=args, prog_name="toolkeeper", standalone_mode=False)))


def _way_out(error: OSError) -> str:
    """What helps where the folder of all state cannot be made or written."""
    from toolkeeper.wiring.places import state_root  # noqa: PLC0415 – only when something failed

    given = os.environ.get("TOOLKEEPER_STATE_DIR")
    root = state_root(Path(given) if given else None)
    place = Path(str(error.filename)).absolute()
    if isinstance(error, PermissionError) and (place in (root, *root.parents) or root in place.parents):
        return f": state is kept in {root}; name another folder with --state-dir or TOOLKEEPER_STATE_DIR"
    return ""


def _outcome(command: Callable[[], object]) -> int:
    """Run it; its exit code. What it failed of is one line on stderr."""
    try:
        returned = command()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`); flushing the rest at exit would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}{_way_out(error)}", err=True)
        return 1
    except ToolkeeperError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    return returned if isinstance(returned, int) else 0
