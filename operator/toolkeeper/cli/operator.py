"""`toolkeeper operator`."""

from __future__ import annotations

from dataclasses import replace

import click

from toolkeeper.cli.git import git_options
from toolkeeper.cli.opening import run, store_options
from toolkeeper.telemetry.logs import Format, Level
from toolkeeper.wiring.git import GitOptions
from toolkeeper.wiring.loop import run_operator
from toolkeeper.wiring.options import LoopOptions
from toolkeeper.wiring.places import Place

EPILOG = """\b
Examples:
  toolkeeper operator --store directory --path manifests/
  toolkeeper operator --store directory --git https://github.com/OWNER/REPO.git --ref main --path servers
  toolkeeper operator --store sqlite --health-address 127.0.0.1:9090
  toolkeeper operator --store kubernetes --namespace tools --health-address :8080
  toolkeeper operator --store kubernetes --all-namespaces --kubeconfig ~/.kube/config --context lab

\b
At --health-address:
  /healthz  200 while the process can do its work; 503 once only a restart would help: the event loop is stuck, or
            the watch stays deaf for six times --watch-seconds although the API server answers. Neither a lost lease
            nor an API server that is away, refuses or forbids fails it.
  /readyz   200 once the resources were listed, also as standby.
  /metrics  for Prometheus; with a cluster, toolkeeper_kubernetes_* say what the API server answers.

\b
With --git the directory is the newest commit that could be pulled. A commit comes into force as a whole; a failed pull
leaves the last good one; `toolkeeper describe` shows which.

\b
Several operators of one cluster elect a leader by the Lease "toolkeeper" in --operator-namespace; a standby takes over
within 15 s. Beside it are the ConfigMap "toolkeeper" (the installation's name) and the Secret "toolkeeper-digests" (the
key that secrets are compared by); both are created if absent. Another --operator-namespace is another control plane:
where two of them look after the same namespaces, each server runs twice.
"""


@click.command("operator", epilog=EPILOG)
@click.option(
    "--allow-prune", is_flag=True, help="Believe an emptied directory, and lift the cap on removals."
)
@click.option(
    "--health-address", metavar="HOST:PORT", envvar="TOOLKEEPER_HEALTH_ADDRESS",
    help="Serve /healthz, /readyz and /metrics there; :PORT for every interface.",
)  # fmt: skip
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, envvar="TOOLKEEPER_NAMESPACES",
    help="With a cluster: only resources of this namespace; can be repeated. Default: of every namespace.",
)  # fmt: skip
@click.option(
    "-A", "--all-namespaces", is_flag=True, help="With a cluster: resources of every namespace, the default."
)
@click.option(
    "--identity", envvar="TOOLKEEPER_IDENTITY",
    help="With a cluster: name of this process in the Lease and in Events. Default: the machine's, so the pod's.",
)  # fmt: skip
@click.option(
    "--watch-seconds", type=click.IntRange(5, 1800), envvar="TOOLKEEPER_WATCH_SECONDS",
    help="With a cluster: how long a watch lasts before it is renewed; shorter than what proxies on the way let a "
    "connection be silent. Default: 60.",
)  # fmt: skip
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
@git_options
@store_options
def operator_command(
    *,
    allow_prune: bool,
    health_address: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    identity: str | None,
    watch_seconds: int | None,
    log_format: Format,
    log_level: Level,
    git: GitOptions | None,
    place: Place,
) -> None:
    """Run the reconcile loop until Ctrl-C or SIGTERM. Servers go on running without it."""
    if all_namespaces and namespaces:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    if place.cluster is not None:
        cluster = replace(
            place.cluster,
            namespaces=tuple(sorted(set(namespaces))),
            identity=identity or "",
            watch_seconds=watch_seconds or place.cluster.watch_seconds,
        )
        place = replace(place, cluster=cluster)
    elif namespaces or all_namespaces or identity or watch_seconds:
        raise click.UsageError(
            "--namespace, --all-namespaces, --identity and --watch-seconds need --store kubernetes"
        )
    options = LoopOptions(
        allow_prune=allow_prune, health=health_address, log_format=log_format, log_level=log_level, git=git
    )
    run(run_operator(place, options))
