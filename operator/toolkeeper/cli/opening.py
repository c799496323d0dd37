"""The options that say which store a command speaks to, and opening it for the length of the command."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from toolkeeper.errors import ToolkeeperError

if TYPE_CHECKING:
    from toolkeeper.reconcile.ports import Resource
    from toolkeeper.wiring.places import Place

Answer = TypeVar("Answer")

OPTIONS = (
    click.option(
        "--store",
        type=click.Choice(["directory", "sqlite", "kubernetes"]),
        envvar="TOOLKEEPER_STORE",
        help="Where resources are kept. Default: what `up` or `operator` runs on here, else sqlite.",
    ),
    click.option(
        "--path",
        type=click.Path(path_type=Path),
        envvar="TOOLKEEPER_PATH",
        help="The directory, or the SQLite file.",
    ),
    click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="TOOLKEEPER_STATE_DIR",
        help="Where status is kept. Default: ~/.local/state/toolkeeper.",
    ),
    click.option("--installation", envvar="TOOLKEEPER_INSTALLATION", help="Name of this control plane."),
    click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False, path_type=Path),
        help="With a cluster: how to reach it. Default: the pod's service account, else KUBECONFIG, ~/.kube/config.",
    ),
    click.option("--context", help="With a cluster: the kubeconfig's context. Default: its current one."),
    click.option(
        "--operator-namespace",
        envvar="TOOLKEEPER_OPERATOR_NAMESPACE",
        help="With a cluster: where the operator keeps Lease, ConfigMap and key. Default: the credentials' namespace.",
    ),
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which store, handed to the command as one `place` argument."""

    @functools.wraps(command)
    def with_place(
        *args: Any,
        store: str | None,
        path: Path | None,
        state_dir: Path | None,
        installation: str | None,
        kubeconfig: Path | None,
        context: str | None,
        operator_namespace: str | None,
        **kwargs: Any,
    ) -> Any:
        from toolkeeper.wiring.places import ClusterChoice, place_of  # noqa: PLC0415 – not needed for --help

        cluster = None
        said = click.get_current_context().get_parameter_source("operator_namespace")
        if kubeconfig is not None or context or said is ParameterSource.COMMANDLINE or store == "kubernetes":
            cluster = ClusterChoice(kubeconfig, context or "", home=operator_namespace or "")
        try:
            if (git := kwargs.get("git")) is not None:
                from toolkeeper.cli.git import git_place  # noqa: PLC0415 – only the operator pulls

                place, kwargs["git"] = git_place(
                    git, store, path, state_dir=state_dir, installation=installation
                )
            else:
                place = place_of(store, path, state_dir=state_dir, installation=installation, cluster=cluster)
        except ToolkeeperError as exc:
            raise click.ClickException(str(exc)) from exc
        if place.cluster is not None and _unsaid("namespace"):
            kwargs["namespace"] = _usual_namespace(place)
        return command(*args, place=place, **kwargs)

    for option in reversed(OPTIONS):
        with_place = option(with_place)
    return with_place


def _unsaid(option: str) -> bool:
    """Whether the command has that option, and nobody gave it."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.DEFAULT


def _usual_namespace(place: Place) -> str:
    from toolkeeper.wiring.visiting import usual_namespace  # noqa: PLC0415 – loads kopf and aiohttp

    assert place.cluster is not None
    try:
        return usual_namespace(place.cluster)
    except ToolkeeperError as exc:
        raise click.ClickException(str(exc)) from exc


def namespace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-n NAMESPACE`."""
    option = click.option(
        "-n", "--namespace", default="default", show_default=True,
        help="Namespace. With a cluster, the default is that of the kubeconfig's context.",
    )  # fmt: skip
    return option(command)


def run(work: Awaitable[Answer]) -> Answer:
    """Run an asynchronous command; say an error of ours in one line and exit 1, 130 after Ctrl-C."""

    async def whole() -> Answer:
        return await work

    try:
        return asyncio.run(whole())
    except ToolkeeperError as exc:
        raise click.ClickException(str(exc)) from exc
    except KeyboardInterrupt:
        sys.exit(130)


def warn_of_age(place: Place, resources: Iterable[Resource]) -> None:
    """Status is as old as whoever wrote it: say so where nobody writes it any more."""
    from toolkeeper.wiring.places import looked_after  # noqa: PLC0415 – not for --help

    if any(each.status.observed_generation >= 0 for each in resources) and not looked_after(place):
        click.echo(
            f"Warning: no operator looks after {place.name} now: this is what the last one saw", err=True
        )
