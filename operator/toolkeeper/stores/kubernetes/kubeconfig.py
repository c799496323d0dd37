"""Reading a kubeconfig as kubectl does: several files, a context, paths beside the file that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kopf
import yaml

from toolkeeper.errors import Invalid
from toolkeeper.stores.kubernetes import plugins

Section = dict[str, dict[str, Any]]
FILES = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})


def files_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that `$KUBECONFIG` names, else `~/.kube/config` if there is one."""
    named = environ.get("KUBECONFIG", "")
    if named:
        return tuple(Path(each).expanduser() for each in named.split(":") if each)
    usual = Path("~/.kube/config").expanduser()
    return (usual,) if usual.is_file() else ()


Fetch = Callable[[dict[str, Any], dict[str, Any]], plugins.Credential]
"""Runs the program that an `exec` entry names, for that cluster."""


def read(files: Sequence[Path], context: str = "", *, fetch: Fetch = plugins.fetch) -> kopf.ConnectionInfo:
    """How to reach the cluster of that context, or of the current one. The first file that says something counts.

    A program that fetches the credentials is run, at each call. Raises Invalid for what is missing, Unreachable when
    that program fails.
    """
    current, contexts, clusters, users = "", Section(), Section(), Section()
    for file in files:
        document = _document(file)
        current = current or str(document.get("current-context") or "")
        for section, plural, singular in (
            (contexts, "contexts", "context"),
            (clusters, "clusters", "cluster"),
            (users, "users", "user"),
        ):
            for name, entry in _entries(file, document, plural, singular):
                section.setdefault(name, _beside(file, entry))
    named = ", ".join(map(str, files))
    chosen = context or current
    if not chosen:
        raise Invalid(f"{named} has no current context: name one with --context")
    if chosen not in contexts:
        raise Invalid(f"{named} has no context {chosen!r}; it has {', '.join(sorted(contexts)) or 'none'}")
    place = contexts[chosen]
    try:
        cluster, user = clusters[str(place["cluster"])], users[str(place["user"])]
        server = str(cluster["server"])
    except KeyError as exc:
        raise Invalid(f"the context {chosen!r} of {named} leads nowhere: {exc} is missing") from exc
    if not server.startswith(("https://", "http://")):
        raise Invalid(
            f"the context {chosen!r} of {named} leads nowhere: its server is no URL, but {server!r}"
        )
    credential = _credential(user, {**cluster, "server": server}, chosen, fetch)
    return kopf.ConnectionInfo(
        server=server,
        ca_path=cluster.get("certificate-authority"),
        ca_data=cluster.get("certificate-authority-data"),
        insecure=cluster.get("insecure-skip-tls-verify"),
        certificate_path=user.get("client-certificate"),
        certificate_data=credential.certificate,
        private_key_path=user.get("client-key"),
        private_key_data=credential.key,
        username=user.get("username"),
        password=user.get("password"),
        token=credential.token,
        expiration=credential.expires,
        default_namespace=str(place.get("namespace") or "default"),
        proxy_url=cluster.get("proxy-url"),
    )


def _credential(
    user: dict[str, Any], cluster: dict[str, Any], context: str, fetch: Fetch
) -> plugins.Credential:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    certificate = user.get("client-certificate") or user.get("client-certificate-data")
    if not (token or certificate or user.get("username")):
        if "auth-provider" in user:
            raise Invalid(
                f"the context {context!r} gets its credentials from an auth-provider, which Kubernetes gave up: "
                "use what your provider offers instead, a program under `exec`"
            )
        if user.get("exec"):
            return fetch(user["exec"], cluster)
    return plugins.Credential(
        token or None, user.get("client-certificate-data"), user.get("client-key-data"), None
    )


def _document(file: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as exc:
        raise Invalid(f"the kubeconfig {file} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise Invalid(f"the kubeconfig {file} is not YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise Invalid(f"the kubeconfig {file} is not a mapping")
    return document


def _entries(
    file: Path, document: dict[str, Any], plural: str, singular: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What such a section says, by name. Raises Invalid when it is no list of named mappings."""
    listed = document.get(plural) or []
    for each in listed if isinstance(listed, list) else [listed]:
        entry = (each.get(singular) or {}) if isinstance(each, dict) else None
        if not isinstance(entry, dict):
            raise Invalid(
                f"{plural} of the kubeconfig {file} is no list of entries with a name and a {singular}"
            )
        yield str(each.get("name")), entry


def _beside(file: Path, entry: dict[str, Any]) -> dict[str, Any]:
    found = {name: str(file.parent / value) if name in FILES else value for name, value in entry.items()}
    plugin = found.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command")):
        found["exec"] = {**plugin, "command": str(file.parent / plugin["command"])}
    return found
