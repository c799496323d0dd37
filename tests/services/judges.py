"""What Flux, `helm --wait` and Argo CD make of an object: the program of `tests/gitops/judges`, built with Go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import cache

MODULE = Path(__file__).parents[1] / "gitops" / "judges"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two opinions on one object, and what each says about it."""

    kstatus: str
    kstatus_message: str
    argo: str
    argo_message: str


def ask(checks: Path, objects: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """One verdict for each object; `checks` is the folder of the health checks in Lua."""
    done = subprocess.run(
        [str(_built()), str(checks)],
        input=json.dumps(objects), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [
        Verdict(
            each["kstatus"]["status"],
            each["kstatus"]["message"],
            each["argo"]["status"],
            each["argo"]["message"],
        )
        for each in json.loads(done.stdout)
    ]


def missing() -> str | None:
    """Why nobody can be asked; None otherwise."""
    if shutil.which("go") is None and not _program().exists():
        return "Go is missing, and with it the judges of health are built"
    return None


def install() -> str | None:
    """Build what is not built yet: half a minute the first time. Returns why that is not possible, or None."""
    if (reason := missing()) is not None:
        return reason
    try:
        _built()
    except subprocess.CalledProcessError as error:
        return f"the judges of health cannot be built: {error.stderr.strip()[-500:]}"
    return None


def _program() -> Path:
    recipe = b"".join((MODULE / file).read_bytes() for file in ("go.sum", "main.go"))
    return cache.folder() / f"judges-{hashlib.sha256(recipe).hexdigest()[:12]}"


def _built() -> Path:
    program = _program()
    if not program.exists():
        partial = program.with_name(f"{program.name}.{os.getpid()}.partial")
        subprocess.run(
            ["go", "build", "-p", "2", "-ldflags", "-s -w", "-o", str(partial), "."],
            cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        partial.rename(program)  # whole or not at all: a build that is cut off leaves no half program behind
    return program
