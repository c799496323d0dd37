"""How a node becomes a toolbox: the manifest, and the one command that brings its token to the operator. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import yaml

from toolkeeper.resources.meta import API_VERSION, CREDENTIAL, FOR_TOOLBOXES


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What `toolkeeper node enroll` prints."""

    manifest: str
    """The Toolbox, as YAML."""
    command: str
    """To be run once, where the operator's cluster is reached; the token itself is on no screen and in no history."""


def enrol(
    *, name: str, namespace: str, endpoint: str, fingerprint: str, token_file: str, host: str
) -> Enrolment:
    """The manifest of a toolbox called `name`, and the command that delivers its token as the Secret it names."""
    secret = f"{name}-token"
    spec: dict[str, object] = {
        "endpoint": endpoint,
        "agent": "toolkeeper",
        "tokenRef": {"name": secret, "key": "token"},
    }
    if fingerprint:
        spec["tls"] = {"fingerprints": [fingerprint]}
    toolbox = {
        "apiVersion": API_VERSION,
        "kind": "Toolbox",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    fetch = shlex.join(["ssh", host, "sudo", "head", "-n1", token_file])
    kubectl = ["kubectl", "--namespace", namespace]
    create = [*kubectl, "create", "secret", "generic", secret, "--from-file=token=/dev/stdin"]
    # Only a marked Secret may be used, and a server-side apply leaves no copy of the token in an annotation.
    mark = ["kubectl", "label", "--local", "--filename=-", f"{CREDENTIAL}={FOR_TOOLBOXES}", "--output=yaml"]
    apply = [*kubectl, "apply", "--server-side", "--filename=-"]
    steps = [[*create, "--dry-run=client", "--output=yaml"], mark, apply]
    return Enrolment(
        manifest=yaml.safe_dump(toolbox, sort_keys=False),
        command=" | ".join([fetch, "tr -d '\\n'", *map(shlex.join, steps)]),
    )
