"""How the API server is reached: kopf's own credentials and sessions, for our requests and for its watches alike."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import kopf

from toolkeeper.errors import Unreachable

Login = Callable[[], kopf.ConnectionInfo]
"""Reads the credentials anew: a service account's token is replaced about every hour."""

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0


def login() -> kopf.ConnectionInfo:
    """The pod's service account, else the kubeconfig. Raises Unreachable when there is neither."""
    settings = kopf.OperatorSettings()
    for source in (kopf.login_with_service_account, kopf.login_with_kubeconfig):
        try:
            info = source(settings=settings)
        except (OSError, LookupError, ValueError, kopf.LoginError) as exc:
            raise Unreachable(
                f"the credentials for Kubernetes cannot be read: {exc}", reason="StoreUnreachable"
            ) from exc
        if info is not None:
            return info
    raise Unreachable(
        "there are no credentials for Kubernetes: run in a pod with a service account, or set KUBECONFIG",
        reason="StoreUnreachable",
    )


def session(info: kopf.ConnectionInfo, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """A session with the TLS and the credentials that `info` says. It belongs to the running event loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers={**info.as_http_headers(), "User-Agent": "toolkeeper"},
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        trace_configs=list(traces),
    )
