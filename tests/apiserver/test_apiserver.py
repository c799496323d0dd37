"""The server that the other tests of this group rely on."""

from __future__ import annotations

import httpx
import pytest

from services import apiserver

pytestmark = pytest.mark.kubernetes


def test_kubectl_reaches_the_server(kubernetes: apiserver.ApiServer) -> None:
    done = apiserver.kubectl(kubernetes.kubeconfig(), "version")
    assert f"Server Version: v{apiserver.VERSION}" in done.stdout


def test_the_server_knows_nobody_else(kubernetes: apiserver.ApiServer) -> None:
    done = apiserver.kubectl(kubernetes.kubeconfig(token="stranger"), "get", "namespaces")
    assert done.returncode != 0
    assert "logged in" in done.stderr


def test_its_data_outlive_a_crash(kubernetes: apiserver.ApiServer) -> None:
    admin = kubernetes.kubeconfig()
    assert apiserver.kubectl(admin, "create", "namespace", "kept").returncode == 0
    kubernetes.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(kubernetes.url, verify=False, trust_env=False)
    kubernetes.start()
    assert "kept" in apiserver.kubectl(admin, "get", "namespaces").stdout
