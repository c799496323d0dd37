"""`toolkeeper crds`."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Example:
  toolkeeper crds --dir crds && kubectl apply --server-side -f crds/
"""


@click.command("crds", epilog=EPILOG)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("crds"),
    show_default=True,
    help="Where the files go.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file differs.")
def crds_command(directory: Path, check: bool) -> None:
    """Write the CustomResourceDefinitions and the editors' JSON Schemas from the resource models."""
    from toolkeeper.resources.crds import render_crds  # noqa: PLC0415 – building models' schemas takes a moment

    different = []
    for name, text in render_crds().items():
        path = directory / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in different:
        click.echo(f"{'differs' if check else 'wrote'} {path}")
    if check and different:
        raise click.ClickException("run 'toolkeeper crds' and commit what it writes")
