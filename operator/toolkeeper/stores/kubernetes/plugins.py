"""Credentials that a program fetches: `users[].user.exec` of a kubeconfig, as cloud providers write it.

The program is told what kubectl would tell it (KUBERNETES_EXEC_INFO) and prints an ExecCredential of
client.authentication.k8s.io. It has no terminal: who must log in does so beforehand (`aws sso login`, `az login`, …).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, Unreachable

Json = dict[str, Any]
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
PATIENCE = 60.0
"""Seconds for one run: some ask a cloud for a token, which asks others."""
SHORTEST = 5.0
"""Seconds until it is run again at the soonest: one whose clock is behind prints only what has expired."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a program printed: a token, a client certificate, or both."""

    token: str | None
    certificate: str | None
    key: str | None
    expires: datetime | None
    """When it has to be fetched anew; None: when the server no longer takes it."""


def fetch(plugin: Json, cluster: Json, *, patience: float = PATIENCE) -> Credential:
    """Run the program.

    Raises Invalid for an entry that cannot work, Unreachable when the program is missing, fails or prints nonsense:
    never with what it printed, which may be a token.
    """
    version, command = str(plugin.get("apiVersion") or ""), str(plugin.get("command") or "")
    if version not in VERSIONS or not command:
        raise Invalid(
            f"the exec entry of the kubeconfig needs a command and an apiVersion of {' or '.join(VERSIONS)}"
        )
    if plugin.get("interactiveMode") == "Always":
        raise Invalid(
            f"{command} wants a terminal to fetch credentials for Kubernetes, and there is none here"
        )
    said = _output(plugin, command, _environment(plugin, cluster, version), patience)
    try:
        return _credential(json.loads(said), version)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unreachable(f"{command} printed no ExecCredential of {version} with a status") from None


def _output(plugin: Json, command: str, environment: Mapping[str, str], patience: float) -> bytes:
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or [])], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=patience, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _unreachable(f"{command} did not end within {patience:g} s") from None
    except OSError as exc:
        hint = str(plugin.get("installHint") or "").strip()
        raise _unreachable(f"{command} cannot be run: {exc.strerror}{'; ' if hint else ''}{hint}") from exc
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()[-500:]
        raise _unreachable(f"{command} ended with {done.returncode}: {why or 'it does not say why'}")
    return done.stdout


def _environment(plugin: Json, cluster: Json, version: str) -> dict[str, str]:
    spec: Json = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _told(cluster)
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    own = {str(each["name"]): str(each["value"]) for each in plugin.get("env") or []}
    return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(info)}


def _told(cluster: Json) -> Json:
    """What a program may know of the cluster, with files as their content."""
    names = (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority-data",
        "proxy-url",
    )
    told = {name: cluster[name] for name in names if cluster.get(name)}
    if cluster.get("certificate-authority"):
        content = Path(cluster["certificate-authority"]).read_bytes()
        told["certificate-authority-data"] = base64.b64encode(content).decode()
    for each in cluster.get("extensions") or []:
        if each.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = each.get("extension")
    return told


def _credential(document: Json, version: str) -> Credential:
    if document["kind"] != "ExecCredential" or document["apiVersion"] != version:
        raise ValueError("another kind or version")
    status = document["status"]
    token = status.get("token") or None
    certificate, key = status.get("clientCertificateData") or None, status.get("clientKeyData") or None
    if bool(certificate) != bool(key) or not (token or certificate):
        raise ValueError("neither a token nor a certificate with its key")
    expires = status.get("expirationTimestamp")
    if not expires:
        return Credential(token, certificate, key, None)
    at = datetime.fromisoformat(expires)
    soonest = SystemClock().now() + timedelta(seconds=SHORTEST)
    return Credential(token, certificate, key, max(soonest, at if at.tzinfo else at.replace(tzinfo=UTC)))


def _unreachable(what: str) -> Unreachable:
    return Unreachable(f"no credentials for Kubernetes: {what}", reason="StoreUnreachable")
