"""How the API server is reached: kopf's own credentials and sessions, for our requests and for its watches alike."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import kopf

from toolkeeper.errors import Unreachable
from toolkeeper.stores.kubernetes import plugins
from toolkeeper.stores.kubernetes.kubeconfig import Fetch, files_of, read

Login = Callable[[], kopf.ConnectionInfo]
"""Reads the credentials anew: a service account's token is replaced about every hour."""

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0


def namespace(kubeconfig: Path | None = None, context: str = "") -> str:
    """The namespace that a login speaks of; no program is run for it. Raises as `login` does."""
    info = login(kubeconfig, context, fetch=lambda *_: plugins.Credential(None, None, None, None))
    return info.default_namespace or "default"


def login(
    kubeconfig: Path | None = None, context: str = "", *, fetch: Fetch = plugins.fetch
) -> kopf.ConnectionInfo:
    """The kubeconfig if one or a context of it is named; else the pod's service account, else the usual kubeconfig.

    Raises Invalid for a kubeconfig that does not lead to a cluster, Unreachable when there are no credentials.
    """
    if kubeconfig is None and not context:
        info = _service_account()
        if info is not None:
            return info
    files = (kubeconfig,) if kubeconfig is not None else files_of(os.environ)
    if not files:
        raise Unreachable(
            "there are no credentials for Kubernetes: run in a pod with a service account, "
            "or name a kubeconfig with --kubeconfig or KUBECONFIG",
            reason="StoreUnreachable",
        )
    try:
        return read(files, context, fetch=fetch)
    except (OSError, ValueError) as exc:
        raise Unreachable(
            f"the credentials for Kubernetes cannot be read: {exc}", reason="StoreUnreachable"
        ) from exc


def _service_account() -> kopf.ConnectionInfo | None:
    try:
        return kopf.login_with_service_account(settings=kopf.OperatorSettings())
    except OSError as exc:
        raise Unreachable(
            f"the credentials for Kubernetes cannot be read: {exc}", reason="StoreUnreachable"
        ) from exc


def session(info: kopf.ConnectionInfo, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """A session with the TLS and the credentials that `info` says. It belongs to the running event loop.

    Raises Unreachable for certificates that cannot be read: they may come later, or anew.
    """
    # Reading the trusted certificates takes longer than most requests; plain HTTP (`kubectl proxy`) needs none.
    plain = info.server.startswith("http://") and info.proxy_url is None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=True if plain else _trust(info)),
        headers={**info.as_http_headers(), "User-Agent": "toolkeeper"},
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        trace_configs=list(traces),
    )


def _trust(info: kopf.ConnectionInfo) -> ssl.SSLContext:
    files = [each for each in (info.ca_path, info.certificate_path, info.private_key_path) if each]
    try:
        return info.as_ssl_context()
    except (OSError, ValueError) as exc:  # OpenSSL does not say which file it means
        named = f" ({', '.join(map(str, files))})" if files else ""
        raise Unreachable(
            f"the certificates for Kubernetes cannot be used{named}: {exc}", reason="StoreUnreachable"
        ) from exc
