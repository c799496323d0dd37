"""Credentials from a program that a kubeconfig names, as on EKS, GKE and AKS: real programs, real logins."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, Unreachable
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes import access, plugins
from toolkeeper.stores.kubernetes.api import Api
from toolkeeper.stores.kubernetes.store import KubernetesStore

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"
TIME = Key("MCPServer", "default", "time")


@dataclass
class Plugin:
    """A program that prints what it is told to, and remembers how it was called."""

    folder: Path

    def prints(self, status: dict[str, Any], *, version: str = V1) -> None:
        """What it prints from now on."""
        said = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        (self.folder / "says").write_text(json.dumps(said))

    def does(self, script: str) -> None:
        """What it runs, beside remembering the call."""
        program = self.folder / "get-token"
        remember = f'printf "%s\\n" "$* $CLUSTER_NAME $KUBERNETES_EXEC_INFO" >> {self.folder}/calls'
        program.write_text(f"#!/bin/sh\n{remember}\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        """One line for each run."""
        return (self.folder / "calls").read_text().splitlines()

    def entry(self, **more: Any) -> dict[str, Any]:
        """What a kubeconfig says about it."""
        return {
            "apiVersion": V1,
            "command": str(self.folder / "get-token"),
            "interactiveMode": "Never",
            **more,
        }


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    plugin = Plugin(tmp_path)
    plugin.does(f"cat {tmp_path}/says")
    plugin.prints({"token": "sesame"})
    return plugin


CLUSTER = {"server": "https://lab.example"}


def test_a_program_is_called_as_kubectl_calls_it(plugin: Plugin) -> None:
    entry = plugin.entry(
        args=["eks", "get-token"], env=[{"name": "CLUSTER_NAME", "value": "lab"}], provideClusterInfo=True
    )
    assert plugins.fetch(entry, CLUSTER) == plugins.Credential("sesame", None, None, None)
    said, told = plugin.calls[0].split(" lab ")
    assert said == "eks get-token"
    assert json.loads(told) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": CLUSTER},
    }


@pytest.mark.parametrize("at", ["2030-01-01T00:00:00Z", "2030-01-01T01:00:00+01:00"])
def test_it_says_until_when_its_credentials_hold(plugin: Plugin, at: str) -> None:
    plugin.prints({"token": "sesame", "expirationTimestamp": at}, version=V1BETA1)
    fetched = plugins.fetch(plugin.entry(apiVersion=V1BETA1), CLUSTER)
    assert fetched.expires == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_certificate_may_take_the_place_of_a_token(plugin: Plugin) -> None:
    plugin.prints({"clientCertificateData": "a certificate", "clientKeyData": "its key"})
    fetched = plugins.fetch(plugin.entry(), CLUSTER)
    assert (fetched.certificate, fetched.key) == ("a certificate", "its key")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'run aws sso login' >&2; exit 255", "ended with 255: run aws sso login"),
        ("echo secret-of-mine", "printed no ExecCredential"),
        (f'echo \'{{"kind": "ExecCredential", "apiVersion": "{V1}"}}\'', "printed no ExecCredential"),
        ("echo '[]'", "printed no ExecCredential"),
        ("exec sleep 60", "did not end within 0.2 s"),
    ],
)
def test_a_program_that_fails_says_why_and_gives_nothing_away(plugin: Plugin, script: str, why: str) -> None:
    plugin.does(script)
    with pytest.raises(Unreachable, match=why) as refused:
        plugins.fetch(plugin.entry(), CLUSTER, patience=0.2 if "sleep" in script else 30)
    assert "secret-of-mine" not in str(refused.value)


@pytest.mark.parametrize(
    "status",
    [{}, {"token": ""}, {"clientCertificateData": "alone"}, {"token": 1, "expirationTimestamp": "soon"}],
)
def test_a_status_without_credentials_is_none(plugin: Plugin, status: dict[str, Any]) -> None:
    plugin.prints(status)
    with pytest.raises(Unreachable, match="printed no ExecCredential"):
        plugins.fetch(plugin.entry(), CLUSTER)


def test_a_missing_program_comes_with_the_hint_of_whoever_named_it(tmp_path: Path) -> None:
    entry = {"apiVersion": V1, "command": str(tmp_path / "none"), "installHint": "install it like so"}
    with pytest.raises(Unreachable, match="No such file or directory; install it like so"):
        plugins.fetch(entry, CLUSTER)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"apiVersion": V1}, "needs a command"),
        (
            {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"},
            "needs a command and an apiVersion",
        ),
        ({"apiVersion": V1, "command": "x", "interactiveMode": "Always"}, "wants a terminal"),
    ],
)
def test_an_entry_that_cannot_work_is_refused(entry: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        plugins.fetch(entry, CLUSTER)


def kubeconfig(cluster: Cluster, plugin: Plugin, server: str = "") -> Path:
    """As `aws eks update-kubeconfig` writes it."""
    path = plugin.folder / "kubeconfig"
    authority = {"certificate-authority": str(cluster.ca)} if cluster.ca else {}
    document = {
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "clusters": [{"name": "lab", "cluster": {"server": server or cluster.url, **authority}}],
        "users": [{"name": "me", "user": {"exec": plugin.entry(command="./get-token")}}],
    }
    path.write_text(json.dumps(document))
    return path


def test_no_program_is_run_to_learn_the_namespace_of_a_context(fake_cluster: Cluster, plugin: Plugin) -> None:
    assert access.namespace(kubeconfig(fake_cluster, plugin)) == "default"
    assert not (plugin.folder / "calls").exists()


def in_seconds(seconds: float) -> str:
    return (SystemClock().now() + timedelta(seconds=seconds)).isoformat()


@pytest.mark.anyio
@pytest.mark.slow
async def test_credentials_that_expire_are_fetched_anew_before_they_are_refused(
    cluster: Cluster, plugin: Plugin, hand: Hand, opening: Opening
) -> None:
    path = kubeconfig(cluster, plugin)
    plugin.prints({"token": cluster.token, "expirationTimestamp": in_seconds(plugins.SHORTEST)})
    async with opening(login=lambda: access.login(path), watch_seconds=1) as store:
        await store.list()
        await until(lambda: len(plugin.calls) == 2)  # for the requests, and for the watch
        plugin.prints({"token": cluster.token, "expirationTimestamp": in_seconds(3600)})
        await asyncio.sleep(plugins.SHORTEST)
        await asyncio.gather(*[store.api.request("GET", "/version") for _ in range(5)])
        await until(lambda: len(plugin.calls) == 4)
        await hand.put(server())
        await until(lambda: store.believed(TIME))
        assert len(plugin.calls) == 4, "once for all who ask"
        figures = store.figures()
        assert 401 not in {*figures.answers, *figures.watch_answers}


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_program_that_fails_for_a_while_is_asked_again(
    fake_cluster: Cluster, plugin: Plugin, tmp_path: Path
) -> None:
    plugin.prints({"token": fake_cluster.token})
    plugin.does(f"[ -e {tmp_path}/logged-in ] || {{ echo log in first >&2; exit 1; }}; cat {tmp_path}/says")
    path = kubeconfig(fake_cluster, plugin)
    store = KubernetesStore(login=lambda: access.login(path), namespaces=["default"])
    store.start()
    try:
        with pytest.raises(Unreachable, match="log in first"):
            await store.list()
        await until(lambda: len(plugin.calls) >= 2)  # the watch asked, too
        (tmp_path / "logged-in").touch()
        await until(lambda: store.figures().watch_answers.get(200, 0) >= 6, within=30)
        await until(lambda: not store.health().failure, within=30)
    finally:
        await store.aclose()


def test_what_has_expired_already_is_used_until_it_is_refused(plugin: Plugin) -> None:
    plugin.prints({"token": "sesame", "expirationTimestamp": in_seconds(-60)})
    fetched = plugins.fetch(plugin.entry(), CLUSTER)
    assert fetched.expires is not None
    assert fetched.expires > SystemClock().now()


@pytest.mark.anyio
@pytest.mark.kubernetes
@pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True)  # the one in memory believes everybody
async def test_credentials_that_are_refused_are_fetched_anew(cluster: Cluster, plugin: Plugin) -> None:
    path = kubeconfig(cluster, plugin)
    api = Api(lambda: access.login(path))
    plugin.prints({"token": "revoked"})
    again = (
        f"[ $(wc -l < {plugin.folder}/calls) = 1 ] || sed -i s/revoked/{cluster.token}/ {plugin.folder}/says"
    )
    plugin.does(f"{again}; cat {plugin.folder}/says")
    assert (await api.request("GET", "/version"))["major"]
    assert len(plugin.calls) == 2
    await api.aclose()


@pytest.mark.anyio
async def test_a_program_that_takes_its_time_is_not_begun_again_by_whoever_cannot_wait(
    cluster: Cluster, plugin: Plugin
) -> None:
    path = kubeconfig(cluster, plugin)
    plugin.prints({"token": cluster.token})
    plugin.does(f"sleep 0.4; cat {plugin.folder}/says")
    api = Api(lambda: access.login(path))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await api.request("GET", "/version")
    assert (await api.request("GET", "/version"))["major"]
    assert len(plugin.calls) == 1
    await api.aclose()
