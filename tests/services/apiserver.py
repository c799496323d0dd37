"""The upstream Kubernetes API server, built from `tests/apiserver` and run on a loopback port; and kubectl.

No controllers run beside it: nothing collects garbage by owner, empties a deleted namespace or starts a Pod.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services import cache

MODULE = Path(__file__).parents[1] / "apiserver"
VERSION = "1.36.3"
ADMIN = "the-admin-of-the-tests"
START_SECONDS = 60


def missing() -> str | None:
    """Why there is no API server and none can be built; None otherwise."""
    if shutil.which("go") is None and not (_program("apiserver").exists() and _kubectl_found()):
        return "Go is missing, and with it the Kubernetes API server is built"
    return None


def install() -> str | None:
    """Build what is not built yet: about five minutes the first time. Returns why that is not possible, or None."""
    if (reason := missing()) is not None:
        return reason
    try:
        if not _program("apiserver").exists():
            major, minor, _ = VERSION.split(".")
            stamp = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
            _build("apiserver", ".", [f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamp.items()])
        if not _kubectl_found():
            _build("kubectl", "k8s.io/kubernetes/cmd/kubectl", [])
    except subprocess.CalledProcessError as error:
        return f"the API server cannot be built: {error.stderr.strip()[-500:]}"
    return None


def kubectl(kubeconfig: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run kubectl, the machine's or the one built beside the server, with `given` on its standard input."""
    return subprocess.run(
        [kubectl_program(), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'kubectl-cache'}",
         *arguments],
        input=given, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def kubectl_program() -> str:
    """The machine's kubectl, or the one built beside the server."""
    return shutil.which("kubectl") or str(_program("kubectl"))


class ApiServer:
    """One API server with its data under `folder`. It can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca = folder / "certs" / "apiserver.crt"
        self.audit = folder / "audit.log"
        """One JSON line for each request that was answered."""
        self._process: subprocess.Popen[bytes] | None = None
        _write_keys(folder)

    def start(self) -> None:
        """Run it and wait until it is ready."""
        with (self.folder / "apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_program("apiserver")), *self._arguments()],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready():
                return
            time.sleep(0.1)
        raise RuntimeError(f"the API server does not start; see {self.folder / 'apiserver.log'}")

    def stop(self) -> None:
        """End it, as a crash would; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kubeconfig(self, *, token: str = ADMIN) -> Path:
        """A kubeconfig file for whoever holds the token."""
        return write_kubeconfig(self.folder, self.url, self.ca, token)

    def _is_ready(self) -> bool:
        try:
            # Before the certificate is written there is nothing to verify with, so nothing is verified.
            answer = httpx.get(
                f"{self.url}/readyz",
                headers={"Authorization": f"Bearer {ADMIN}"},
                verify=False,
                trust_env=False,
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _arguments(self) -> list[str]:
        folder = self.folder
        return [
            "--etcd-dir", str(folder / "etcd"),
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={folder / 'certs'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://127.0.0.1/",
            f"--service-account-key-file={folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            # As on OpenShift: who blocks the deletion of an owner needs a right to its finalizers.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={self.audit}",
            "--v=0",
        ]  # fmt: skip


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """An API server that keeps its data under `folder` and ends with the context."""
    if (reason := install()) is not None:
        raise RuntimeError(reason)
    server = ApiServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def write_kubeconfig(folder: Path, url: str, ca: Path | None, token: str) -> Path:
    """A file in `folder` that lets kubectl reach the server at `url`."""
    path = folder / f"kubeconfig-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
    cluster = {"server": url} | ({"certificate-authority": str(ca)} if ca else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(config))
    return path


def _program(name: str) -> Path:
    recipe = b"".join((MODULE / file).read_bytes() for file in ("go.sum", "main.go"))
    return cache.folder() / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kubectl_found() -> bool:
    return shutil.which("kubectl") is not None or _program("kubectl").exists()


def _build(name: str, package: str, variables: Sequence[str]) -> None:
    program = _program(name)
    partial = program.with_name(f"{program.name}.{os.getpid()}.partial")
    subprocess.run(
        ["go", "build", "-p", "2", "-ldflags", " ".join(["-s -w", *variables]), "-o", str(partial), package],
        cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    partial.rename(program)  # whole or not at all: a build that is cut off leaves no half program behind


def _write_keys(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "accounts.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "accounts.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
    (folder / "audit.yaml").write_text(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
    )
