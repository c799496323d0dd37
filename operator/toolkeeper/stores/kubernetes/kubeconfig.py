"""Reading a kubeconfig as kubectl does: several files, a context, paths beside the file that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kopf
import yaml

from toolkeeper.errors import Invalid

Section = dict[str, dict[str, Any]]
FILES = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})
FOREIGN = ("exec", "auth-provider")


def files_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that `$KUBECONFIG` names, else `~/.kube/config` if there is one."""
    named = environ.get("KUBECONFIG", "")
    if named:
        return tuple(Path(each).expanduser() for each in named.split(":") if each)
    usual = Path("~/.kube/config").expanduser()
    return (usual,) if usual.is_file() else ()


def read(files: Sequence[Path], context: str = "") -> kopf.ConnectionInfo:
    """How to reach the cluster of that context, or of the current one. The first file that says something counts.

    Raises Invalid for what is missing, and for credentials that another program would have to fetch.
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
            for each in document.get(plural) or []:
                section.setdefault(str(each.get("name")), _beside(file, each.get(singular) or {}))
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
    return _connection(server, cluster, user, str(place.get("namespace") or "default"), chosen)


def _connection(
    server: str, cluster: dict[str, Any], user: dict[str, Any], namespace: str, context: str
) -> kopf.ConnectionInfo:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    certificate = user.get("client-certificate") or user.get("client-certificate-data")
    if not (token or certificate or user.get("username")):
        for each in FOREIGN:
            if each in user:
                raise Invalid(
                    f"the context {context!r} gets its credentials from a program ({each}), which is not supported: "
                    "use a context with a token or a certificate, such as that of a ServiceAccount"
                )
    return kopf.ConnectionInfo(
        server=server,
        ca_path=cluster.get("certificate-authority"),
        ca_data=cluster.get("certificate-authority-data"),
        insecure=cluster.get("insecure-skip-tls-verify"),
        certificate_path=user.get("client-certificate"),
        certificate_data=user.get("client-certificate-data"),
        private_key_path=user.get("client-key"),
        private_key_data=user.get("client-key-data"),
        username=user.get("username"),
        password=user.get("password"),
        token=token,
        default_namespace=namespace,
        proxy_url=cluster.get("proxy-url"),
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


def _beside(file: Path, entry: dict[str, Any]) -> dict[str, Any]:
    return {name: str(file.parent / value) if name in FILES else value for name, value in entry.items()}
