"""The options of `toolkeeper operator` that say which Git repository its directory is pulled from."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from toolkeeper.wiring.git import GitOptions
    from toolkeeper.wiring.places import Place

REFERENCE = "file:PATH|env:NAME"


@dataclass(frozen=True, slots=True)
class GitSaid:
    """The options as they were given."""

    git: str
    ref: str
    git_interval: float
    git_credentials: str | None
    git_ssh_key: Path | None
    git_known_hosts: Path | None
    webhook_address: str | None
    webhook_secret: str | None


OPTIONS = (
    click.option(
        "--git", metavar="URL", envvar="TOOLKEEPER_GIT",
        help="Pull the directory from this repository (https, ssh, file); --path is then a folder in it.",
    ),
    click.option(
        "--ref", default="HEAD", show_default=True, envvar="TOOLKEEPER_GIT_REF",
        help="With --git: branch, tag, or all 40 characters of a commit. HEAD: the repository's default branch.",
    ),
    click.option(
        "--git-interval", type=float, default=60.0, show_default=True, metavar="SECONDS",
        envvar="TOOLKEEPER_GIT_INTERVAL", help="With --git: between two looks.",
    ),
    click.option(
        "--git-credentials", metavar=REFERENCE, envvar="TOOLKEEPER_GIT_CREDENTIALS",
        help="With --git https: where 'USER:PASSWORD' or a token is; read anew for each pull.",
    ),
    click.option(
        "--git-ssh-key", metavar="FILE", envvar="TOOLKEEPER_GIT_SSH_KEY", type=click.Path(path_type=Path),
        help="With --git ssh: the private key. Default: the user's own, or the agent's.",
    ),
    click.option(
        "--git-known-hosts", metavar="FILE", envvar="TOOLKEEPER_GIT_KNOWN_HOSTS", type=click.Path(path_type=Path),
        help="With --git ssh: the only servers that are believed. Default: ~/.ssh/known_hosts.",
    ),
    click.option(
        "--webhook-address", metavar="HOST:PORT", envvar="TOOLKEEPER_WEBHOOK_ADDRESS",
        help="With --git: a POST to /webhook there pulls at once.",
    ),
    click.option(
        "--webhook-secret", metavar=REFERENCE, envvar="TOOLKEEPER_WEBHOOK_SECRET",
        help="Where the secret is that GitHub (X-Hub-Signature-256) or GitLab (X-Gitlab-Token) must prove to know.",
    ),
)  # fmt: skip


def git_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, handed to the command as one `git` argument: None without --git. Goes above `store_options`."""

    @functools.wraps(command)
    def with_git(*args: Any, **kwargs: Any) -> Any:
        said = GitSaid(**{name: kwargs.pop(name) for name in GitSaid.__dataclass_fields__})
        if not said.git:
            _nothing_said()
            return command(*args, git=None, **kwargs)
        return command(*args, git=said, **kwargs)

    for option in reversed(OPTIONS):
        with_git = option(with_git)
    return with_git


def git_place(
    said: GitSaid, store: str | None, path: Path | None, *, state_dir: Path | None, installation: str | None
) -> tuple[Place, GitOptions]:
    """What was said, checked, and the place that the newest commit makes. Raises ToolkeeperError."""
    from toolkeeper.errors import Invalid  # noqa: PLC0415 – not needed for --help
    from toolkeeper.stores.git.access import Access, Reference  # noqa: PLC0415
    from toolkeeper.stores.git.address import Address  # noqa: PLC0415
    from toolkeeper.wiring.git import GitOptions, first_pulled  # noqa: PLC0415

    if store not in {None, "directory"}:
        raise Invalid(f"--git is pulled to a directory: use --store directory, not --store {store}")

    def reference(text: str | None, option: str) -> Reference | None:
        return None if text is None else Reference.of(text, option)

    access = Access(
        Address.of(said.git, said.ref, "" if path is None else str(path)),
        reference(said.git_credentials, "--git-credentials"),
        said.git_ssh_key,
        said.git_known_hosts,
    )
    options = GitOptions(
        access,
        installation,
        said.git_interval,
        said.webhook_address,
        reference(said.webhook_secret, "--webhook-secret"),
    )
    return asyncio.run(first_pulled(options, state_dir)), options


def _nothing_said() -> None:
    """Raises UsageError if any of the other options was given."""
    context = click.get_current_context()
    for name in GitSaid.__dataclass_fields__:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise click.UsageError(f"--{name.replace('_', '-')} needs --git URL")
