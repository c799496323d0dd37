"""`toolkeeper operator`."""

from __future__ import annotations

import click

from toolkeeper.cli.opening import run, store_options
from toolkeeper.telemetry.logs import Format, Level
from toolkeeper.wiring.loop import LoopOptions, run_operator
from toolkeeper.wiring.places import Place

EPILOG = """\b
Examples:
  toolkeeper operator --store directory --path manifests/
  toolkeeper operator --store sqlite --metrics 127.0.0.1:9090
"""


@click.command("operator", epilog=EPILOG)
@click.option(
    "--allow-prune", is_flag=True, help="Believe an emptied directory, and lift the cap on removals."
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics, /healthz and /readyz there.")
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="Of the log.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True,
    help="Of the log.",
)  # fmt: skip
@store_options
def operator_command(
    allow_prune: bool, metrics: str | None, log_format: Format, log_level: Level, place: Place
) -> None:
    """Run the reconcile loop until Ctrl-C. Servers go on running without it."""
    options = LoopOptions(
        allow_prune=allow_prune, metrics=metrics, log_format=log_format, log_level=log_level
    )
    run(run_operator(place, options))
