"""The examples for those who deploy from Git: whole, alike where they must be, and accepted by a real cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops.conftest import CHECKS, EXAMPLES
from services import apiserver
from stores_kubernetes.conftest import Cluster
from toolkeeper.resources.kinds import KINDS

PRODUCTION = EXAMPLES / "kustomize" / "overlays" / "production"
SERVER_SIDE = ("apply", "--server-side", "--dry-run=server")


def documents(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each]


def built(folder: Path) -> list[dict[str, Any]]:
    """What Kustomize makes of the folder."""
    done = apiserver.kubectl(Path("/dev/null"), "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def test_the_config_map_has_the_very_checks_that_the_files_have() -> None:
    (config_map,) = documents((EXAMPLES / "argocd" / "argocd-cm.yaml").read_text())
    prefix = "resource.customizations.health."
    files = {f"{prefix}{each.stem}": each.read_text() for each in CHECKS.glob("*.lua")}
    assert config_map["data"] == files
    assert set(files) == {f"{prefix}toolkeeper.dev_{kind}" for kind in KINDS}


def test_both_deployments_from_git_name_the_same_folder() -> None:
    (application,) = documents((EXAMPLES / "argocd" / "application.yaml").read_text())
    repository, kustomization = documents((EXAMPLES / "flux" / "tools.yaml").read_text())
    assert kustomization["spec"]["sourceRef"]["name"] == repository["metadata"]["name"]
    assert kustomization["spec"]["path"].removeprefix("./") == application["spec"]["source"]["path"]
    assert (EXAMPLES / "kustomize" / application["spec"]["source"]["path"]).is_dir()
    assert kustomization["spec"]["wait"] is True


@pytest.mark.kubernetes
def test_the_overlay_changes_what_it_says_and_nothing_else() -> None:
    production = {(each["kind"], each["metadata"]["name"]): each for each in built(PRODUCTION)}
    base = {(each["kind"], each["metadata"]["name"]): each for each in built(EXAMPLES / "kustomize" / "base")}
    assert production.keys() == base.keys()
    assert {each["metadata"]["namespace"] for each in production.values()} == {"production"}
    docs, plain = production["MCPServer", "docs"]["spec"], base["MCPServer", "docs"]["spec"]
    assert docs["image"] == f"{plain['image']}:2.4.1"
    assert production["MCPServer", "time"]["spec"] == base["MCPServer", "time"]["spec"]


@pytest.mark.kubernetes
def test_a_cluster_accepts_the_overlay(real_cluster: Cluster) -> None:
    real_cluster.kubectl("create", "namespace", "production", check=False)
    said = real_cluster.kubectl(*SERVER_SIDE, "-k", str(PRODUCTION))
    assert said.count("serverside-applied (server dry run)") == 3


@pytest.mark.kubernetes
def test_a_cluster_accepts_the_config_map(real_cluster: Cluster) -> None:
    real_cluster.kubectl("create", "namespace", "argocd", check=False)
    said = real_cluster.kubectl(*SERVER_SIDE, "-f", str(EXAMPLES / "argocd" / "argocd-cm.yaml"))
    assert "configmap/argocd-cm serverside-applied" in said


@pytest.mark.kubernetes
def test_what_the_overlay_misspells_is_refused(real_cluster: Cluster, tmp_path: Path) -> None:
    text = "".join(f"---\n{yaml.safe_dump(each)}" for each in built(PRODUCTION)).replace(
        "toolboxRef", "toolbox"
    )
    (tmp_path / "all.yaml").write_text(text)
    real_cluster.kubectl("create", "namespace", "production", check=False)
    with pytest.raises((AssertionError, subprocess.SubprocessError), match="toolbox"):
        real_cluster.kubectl(*SERVER_SIDE, "-f", str(tmp_path / "all.yaml"))
