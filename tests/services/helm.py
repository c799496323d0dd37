"""Helm, built from its Go module: the version that the chart is tested with, whatever this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from services import apiserver, cache

MODULE = "helm.sh/helm/v3"
VERSION = "3.22.0"


def missing() -> str | None:
    """Why there is no Helm and none can be built; None otherwise."""
    if shutil.which("go") is None and not program().exists():
        return "Go is missing, and with it Helm is built"
    return None


def install() -> str | None:
    """Build it if need be: about two minutes the first time. Returns why that is not possible, or None."""
    if (reason := missing()) is not None:
        return reason
    if program().exists():
        return None
    major, minor, _ = apiserver.VERSION.split(".")
    stamp = {
        f"{MODULE}/internal/version.version": f"v{VERSION}",
        f"{MODULE}/pkg/chartutil.k8sVersionMajor": major,  # what `helm template` assumes without a cluster
        f"{MODULE}/pkg/chartutil.k8sVersionMinor": minor,
    }
    flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in stamp.items())])
    with tempfile.TemporaryDirectory(dir=cache.folder()) as folder:
        done = subprocess.run(
            ["go", "install", "-p", "2", "-ldflags", flags, f"{MODULE}/cmd/helm@v{VERSION}"],
            cwd=folder, env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOBIN": folder},
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            return f"Helm cannot be built: {done.stderr.strip()[-500:]}"
        (Path(folder) / "helm").rename(program())
    return None


def program() -> Path:
    """Where it is kept."""
    return cache.folder() / f"helm-{VERSION}"


def helm(
    *arguments: str, kubeconfig: Path | None = None, given: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it, away from the settings and repositories of whoever runs the tests."""
    home = folder or cache.folder() / "helm-home"
    own = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELM_")}
    options = [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    return subprocess.run(
        [str(program()), *arguments, *options],
        env=environment | own | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {"KUBECONFIG": ""}),
        input=given, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
