"""`toolkeeper retire`."""

from __future__ import annotations

from pathlib import Path

import click

from toolkeeper.cli.opening import run

EPILOG = """\b
Example:
  toolkeeper retire --operator-namespace toolkeeper --deployment toolkeeper

\b
`helm uninstall` runs this as a Job. It waits for objects that are being deleted, stops the operator, and takes its
finalizer off every object, which would otherwise hang when it is deleted with no operator there. Servers go on running;
an operator that is installed again finds them.
"""


@click.command("retire", epilog=EPILOG)
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, envvar="TOOLKEEPER_NAMESPACES",
    help="Only objects of this namespace; can be repeated. Default: of every namespace.",
)  # fmt: skip
@click.option(
    "--deployment", default="", metavar="NAME", help="The operator's Deployment, which is scaled to 0 first."
)
@click.option(
    "--wait", "patience", type=click.IntRange(min=0), default=60, show_default=True, metavar="SECONDS",
    help="How long objects that are being deleted may take to go.",
)  # fmt: skip
@click.option(
    "--abandon", is_flag=True,
    help="Let go, too, of objects that are being deleted; what still runs for them must be removed by hand.",
)  # fmt: skip
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path),
    help="How to reach the cluster. Default: the pod's service account, else KUBECONFIG, ~/.kube/config.",
)  # fmt: skip
@click.option("--context", default="", help="The kubeconfig's context. Default: its current one.")
@click.option(
    "--operator-namespace", default="", envvar="TOOLKEEPER_OPERATOR_NAMESPACE",
    help="Where the operator runs and keeps its Lease. Default: the credentials' namespace.",
)  # fmt: skip
@click.option("--identity", default="", envvar="TOOLKEEPER_IDENTITY", hidden=True)
def retire_command(
    namespaces: tuple[str, ...],
    deployment: str,
    patience: int,
    abandon: bool,
    kubeconfig: Path | None,
    context: str,
    operator_namespace: str,
    identity: str,
) -> None:
    """Let go of a cluster's objects, before its operator is uninstalled."""
    from toolkeeper.wiring.places import ClusterChoice  # noqa: PLC0415 – not needed for --help
    from toolkeeper.wiring.retiring import retire  # noqa: PLC0415 – not needed for --help

    choice = ClusterChoice(kubeconfig, context, tuple(sorted(set(namespaces))), operator_namespace, identity)
    run(retire(choice, deployment, click.echo, patience=patience, abandon=abandon))
