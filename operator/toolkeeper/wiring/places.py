"""Where things are kept on this machine, and which control plane a command means.

<state>/current.json            what `up` or `operator` runs on here; the default of other commands
<state>/<installation>/         mode 0700
    state.db                    status, events, overrides (and the objects themselves, with --store sqlite)
    lease, digest.key           leadership; the key of the digests that secrets are compared by
    local.json, toolbox.json    the embedded node of `up`: how to reach it, and its status
    node/                       what the embedded node keeps
<state>/_git/<address>/         what was pulled from Git; can be deleted while nothing runs
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from toolkeeper.errors import Invalid
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.cache import Cache
from toolkeeper.stores.installation import installation_of

Kind = Literal["directory", "sqlite", "kubernetes"]


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """Which Kubernetes cluster, what of it, and as whom."""

    kubeconfig: Path | None = None
    context: str = ""
    namespaces: tuple[str, ...] = ()
    """Whose resources count; none: those of every namespace."""
    home: str = ""
    """Where the operator keeps its Lease, its ConfigMap and its key. Default: the namespace of the credentials."""
    identity: str = ""
    """What others see of this process: in the Lease and in Events. Default: the machine's name, in a pod the pod's."""
    watch_seconds: int = 60
    """How long a watch lasts before it is renewed."""


@dataclass(frozen=True, slots=True)
class Place:
    """One control plane on this machine."""

    kind: Kind
    path: Path
    """The directory of manifests, or the SQLite file; unused with a cluster."""
    root: Path
    """Where this machine keeps all state."""
    installation: str
    origin: str
    """Where the installation's name comes from, as a sentence."""
    cluster: ClusterChoice | None = None
    """The cluster, if it is one; it knows the installation's name itself, so `installation` is empty here."""
    git: Address | None = None
    """What the directory is a copy of."""

    @property
    def name(self) -> str:
        """What it is and where, for people."""
        return "the cluster" if self.cluster is not None else f"{self.kind} {self.path}"

    @property
    def folder(self) -> Path:
        """Where the state of this control plane is kept."""
        return self.root / self.installation


def state_root(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """`given`, else `$XDG_STATE_HOME/toolkeeper`, else `~/.local/state/toolkeeper`."""
    if given is not None:
        return given.absolute()
    home = Path(environment.get("XDG_STATE_HOME", ""))
    # The XDG Base Directory Specification has relative paths ignored.
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "toolkeeper"


def git_cache(root: Path, address: Address) -> Cache:
    """Where commits of that address are kept."""
    return Cache(root / "_git" / address.id, address)  # no installation's name has such a character


def place_of(
    kind: str | None,
    path: Path | None,
    *,
    state_dir: Path | None = None,
    installation: str | None = None,
    cluster: ClusterChoice | None = None,
) -> Place:
    """The control plane that somebody means. Raises Invalid when that cannot be told."""
    root = state_root(state_dir)
    if kind == "kubernetes":
        if path is not None or installation is not None:
            raise Invalid(
                "--path and --installation mean nothing with --store kubernetes: "
                "the ConfigMap toolkeeper in the operator's namespace keeps the installation's name"
            )
        return Place("kubernetes", root, root, "", "from the cluster", cluster or ClusterChoice())
    if cluster is not None:
        raise Invalid("--kubeconfig, --context and --operator-namespace need --store kubernetes")
    if kind is None and path is None:
        current = _current(root)
        if current is not None:
            return current
    if kind is None:
        kind = "directory" if path is not None and path.is_dir() else "sqlite"
    if kind == "directory":
        if path is None:
            raise Invalid("name the directory of manifests with --path")
        found = installation_of(path, installation)
        return Place("directory", path.absolute(), root, found.id, found.origin)
    file = (path or root / "toolkeeper.db").absolute()
    found = installation_of(file.parent, installation)
    return Place("sqlite", file, root, found.id, found.origin)


def remember(place: Place) -> None:
    """Make this the default of other commands while this process lives, unless another one of it is that already."""
    current = _current(place.root)
    if current is not None and current.folder == place.folder:
        return
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    document: dict[str, object] = {
        "kind": place.kind,
        "path": str(place.path),
        "installation": place.installation,
        "pid": os.getpid(),
    }
    if place.git is not None:
        document["git"] = {"url": place.git.url, "ref": place.git.ref, "path": place.git.path}
    write(place.root / "current.json", document)


def forget(place: Place) -> None:
    """Undo `remember`, if it was this process."""
    if _read(place.root / "current.json").get("pid") == os.getpid():
        with suppress(OSError):
            (place.root / "current.json").unlink()


def digest_key(place: Place) -> bytes:
    """The key of the digests that secrets are compared by; made at the first call, apart from the database."""
    file = place.folder / "digest.key"
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
    return file.read_bytes()


@dataclass(frozen=True, slots=True)
class LocalNode:
    """The embedded node of an `up` that runs, or ran with `--keep`."""

    endpoint: str
    token_file: Path
    pid: int


def local_node(place: Place) -> LocalNode | None:
    """How to reach the embedded node of this control plane, if it has one."""
    document = _read(place.folder / "local.json")
    try:
        return LocalNode(str(document["endpoint"]), Path(document["token_file"]), int(document["pid"]))
    except (KeyError, TypeError, ValueError):
        return None


def keep_local_node(place: Place, endpoint: str, token_file: Path) -> None:
    """Write down how to reach the embedded node."""
    document = {"endpoint": endpoint, "token_file": str(token_file), "pid": os.getpid()}
    write(place.folder / "local.json", document)


def write(path: Path, document: Mapping[str, object]) -> None:
    """Write a small JSON file at once or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.replace(path)


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def looked_after(place: Place) -> bool:
    """Whether an operator of that place runs on this machine; of a cluster it is not known, and taken for granted."""
    if place.kind == "kubernetes":
        return True
    try:
        return alive(int((place.folder / "lease").read_text(encoding="utf-8")))
    except (OSError, ValueError, OverflowError):
        return False


def _current(root: Path) -> Place | None:
    document = _read(root / "current.json")
    try:
        if not alive(int(document["pid"])):
            return None
        kind: Kind = "sqlite" if document["kind"] == "sqlite" else "directory"
        return Place(
            kind,
            Path(document["path"]),
            root,
            str(document["installation"]),
            "of what runs on this machine now",
            git=Address.of(**document["git"]) if "git" in document else None,
        )
    except (KeyError, TypeError, ValueError, Invalid):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
