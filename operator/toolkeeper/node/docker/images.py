"""Images: pulled with progress, recorded by digest, remembered while they are used, collected when they are not."""

from __future__ import annotations

import base64
import json
from asyncio import Lock
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from docker import auth

from toolkeeper.errors import Conflict, NotFound, Refused, Unreachable
from toolkeeper.node.docker.engine import Engine, reason_of
from toolkeeper.node.docker.image_record import ImageRecord
from toolkeeper.node.docker.package_recipe import ENTRY_LABEL, PROGRAMS_LABEL
from toolkeeper.node.docker.streams import json_lines
from toolkeeper.node.runtime import Step

Json = dict[str, Any]
PullPolicy = Literal["IfNotPresent", "Always", "Never"]

STALLED_SECONDS: Final = 300
"""Without a byte from the daemon for so long, a pull is given up."""

ANSWERS: Final = (
    ("manifest unknown", "ImageNotFound"),
    ("no matching manifest", "ImageNotFound"),
    ("name unknown", "ImageNotFound"),
    ("invalid reference format", "ImageNotFound"),
    ("not found", "ImageNotFound"),
    ("pull access denied", "RegistryDenied"),
    ("no basic auth credentials", "RegistryDenied"),
    ("unauthorized", "RegistryDenied"),
    ("authentication required", "RegistryDenied"),
    ("denied", "RegistryDenied"),
    ("forbidden", "RegistryDenied"),
    ("no space left on device", "NoSpace"),
)
"""What a daemon says of a pull that failed, and the reason that it stands for. Anything else may work next time."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to be let in by a registry."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a container made of an image inherits."""

    id: str
    digest: str
    """The registry's digest where there is one, else the image's id: `sha256:…`."""
    environment: tuple[str, ...] = ()
    starts: bool = True
    """Whether the image says what to start."""
    programs: tuple[str, ...] = ()
    """What a package brought, where it does not say which of them is the server."""
    user: str = ""
    stop_signal: str = "SIGTERM"


@dataclass
class Images:
    """The images of this host. Raises what `Engine` raises, and Refused with a reason of `observed.Container`."""

    engine: Engine
    record: ImageRecord
    _known: dict[str, ImageFacts] = field(default_factory=dict)
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    async def ensure(
        self, reference: str, policy: PullPolicy, credentials: Credentials, step: Step
    ) -> ImageFacts:
        """The image, pulled if the policy asks for it."""
        if policy != "Always" and (known := self._known.get(reference)) is not None:
            return known
        async with self._locks[reference]:
            before = await self.find(reference)
            if policy == "Never" and before is None:
                raise Refused(
                    f"{reference} is not on the host, and pullPolicy is Never", reason="ImageNotFound"
                )
            if before is not None and policy != "Always":
                return before
            await self._pull(reference, credentials, step)
            self.forget(reference)
            if (pulled := await self.find(reference)) is None:
                raise Refused(f"{reference} was pulled and is gone again", reason="ImagePullFailed")
            if before is None or before.id != pulled.id:
                self.record.brought(pulled.id, reference)
            return pulled

    async def find(self, reference: str) -> ImageFacts | None:
        """The image of that name or id, if it is on the host."""
        if (known := self._known.get(reference)) is not None:
            return known
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_image, reference)
        except NotFound:
            return None
        facts = facts_of(found, reference)
        self._known[reference] = facts
        return facts

    async def offered(self, reference: str, seconds: int) -> None:
        """Make sure that it could be pulled, without pulling it. Raises as a pull would."""
        try:
            async with self.engine.stream(
                f"/distribution/{reference}/json",
                {},
                headers=self._headers(reference, Credentials()),
                idle=seconds,
            ) as pieces:
                async for _ in pieces:
                    pass
        except (NotFound, Refused) as exc:
            raise pull_error(reference, str(exc), anonymous=True) from exc

    def forget(self, reference: str = "") -> None:
        """Ask again before the next use of that image (or of any)."""
        if reference:
            self._known.pop(reference, None)
        else:
            self._known.clear()

    async def collect(self, *, keep: frozenset[str], unused_seconds: float, now: float) -> tuple[str, ...]:
        """Remove what this node pulled or built and nobody used for so long. Returns the names of what went.

        Never touches an image that somebody else brought, that a container uses, or that is in `keep` (names or ids).
        """
        containers = await self.engine.call(self.engine.api.containers, all=True)
        used = {each["ImageID"] for each in containers}
        gone: list[str] = []
        for id, entry in self.record.entries():
            if id in used or keep & {id, entry.reference} or not entry.used:
                self.record.used(id, now)
            elif entry.used + unused_seconds <= now:
                gone += [entry.reference] if await self._discard(id, entry.reference) else []
        return tuple(gone)

    async def _discard(self, id: str, reference: str) -> bool:
        try:
            found = await self.engine.call(self.engine.api.inspect_image, id)
            target = ours_to_remove(found, reference)
            if target is not None:
                await self.engine.wait(self.engine.api.remove_image, target)
        except NotFound:
            self.record.removed(id)
            return False
        except (Refused, Conflict):  # a container was made of it meanwhile
            return False
        self.record.removed(id)
        self.forget()
        return target is not None

    async def _pull(self, reference: str, credentials: Credentials, step: Step) -> None:
        step("pulling", "")
        progress = PullProgress()
        name = reference if "@" in reference or _tag(reference) else f"{reference}:latest"
        headers = self._headers(reference, credentials)
        try:
            async with self.engine.stream(
                "/images/create", {"fromImage": name}, post=headers, idle=STALLED_SECONDS
            ) as pieces:
                async for message in json_lines(pieces):
                    if "error" in message:
                        raise pull_error(reference, str(message["error"]), anonymous=not credentials.username)
                    if (text := progress.feed(message)) is not None:
                        step("pulling", text)
        except NotFound as exc:
            raise pull_error(reference, str(exc), anonymous=not credentials.username) from exc
        except Refused as exc:
            if exc.reason != "Refused":
                raise
            raise pull_error(reference, str(exc), anonymous=not credentials.username) from exc

    def _headers(self, reference: str, credentials: Credentials) -> dict[str, str]:
        if credentials.username:
            named = {"username": credentials.username, "password": credentials.password}
            return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(named).encode()).decode()}
        # What the host's own `docker login` left, for whoever runs the node as themselves.
        registry, _ = auth.resolve_repository_name(reference.partition("@")[0])
        header = auth.get_config_header(self.engine.api, registry)
        return {"X-Registry-Auth": header.decode()} if header else {}


def ours_to_remove(found: Json, reference: str) -> str | None:
    """The name or id by which an image goes that we brought as `reference`; None if only others use it by now.

    By our name where it has one: another name of the same image belongs to somebody else.
    """
    tags, digests = found.get("RepoTags") or [], found.get("RepoDigests") or []
    if reference in (*tags, *digests):
        return reference
    repository = repository_of(reference)
    theirs = tags or any(repository_of(each) != repository for each in digests)
    return None if theirs else str(found["Id"])


@dataclass
class PullProgress:
    """How far a pull is, from the daemon's messages: downloading is one half of it, unpacking the other."""

    layers: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Layer → (share that is done, its size)."""
    shown: str = ""

    def feed(self, message: Json) -> str | None:
        """The text to show (`43 %`), if it changed."""
        layer, status = str(message.get("id", "")), str(message.get("status", ""))
        detail = message.get("progressDetail") or {}
        done, size = detail.get("current", 0), detail.get("total", 0)
        before = self.layers.get(layer, (0.0, 0.0))
        if status == "Downloading" and size:
            self.layers[layer] = (0.5 * done / size, size)
        elif status == "Extracting" and size:
            self.layers[layer] = (0.5 + 0.5 * done / size, max(size, before[1]))
        elif status in ("Pull complete", "Already exists"):
            self.layers[layer] = (1.0, before[1])
        else:
            return None
        whole = sum(size for _, size in self.layers.values())
        share = sum(done * size for done, size in self.layers.values()) / whole if whole else 0.0
        text = f"{min(99, int(100 * share))} %"
        if text == self.shown:
            return None
        self.shown = text
        return text


def facts_of(found: Json, reference: str) -> ImageFacts:
    """From Docker's `image inspect`."""
    config = found.get("Config") or {}
    labels = config.get("Labels") or {}
    repository = repository_of(reference)
    digests = dict(each.split("@", 1) for each in found.get("RepoDigests") or ())
    pinned = reference.partition("@")[2]
    return ImageFacts(
        id=found["Id"],
        digest=pinned or digests.get(repository) or next(iter(digests.values()), found["Id"]),
        environment=tuple(config.get("Env") or ()),
        starts=bool(config.get("Entrypoint") or config.get("Cmd")) and labels.get(ENTRY_LABEL, "?") != "",
        programs=tuple(filter(None, labels.get(PROGRAMS_LABEL, "").split(","))),
        user=config.get("User") or "",
        stop_signal=config.get("StopSignal") or "SIGTERM",
    )


def pull_error(reference: str, text: str, *, anonymous: bool) -> Refused | Unreachable:
    """Why a pull failed, by what happens next. Registries answer the same for what is secret and what is not there."""
    lowered = text.lower()
    reason = next(
        (reason for phrase, reason in ANSWERS if phrase in lowered), reason_of(text, "ImagePullFailed")
    )
    hint = ""
    if reason == "RegistryDenied":
        hint = (
            " (it may not exist, or needs a pullSecretRef)"
            if anonymous
            else " (with the pullSecretRef's user)"
        )
    return Refused(f"{reference} cannot be pulled{hint}: {text}", reason=reason)


def repository_of(reference: str) -> str:
    """An image's name without its tag and digest."""
    named = reference.partition("@")[0]
    return named.removesuffix(f":{_tag(named)}")


def _tag(reference: str) -> str:
    """The tag of an image's name, empty if it has none: `localhost:5000/a` has none."""
    last = reference.rpartition("/")[2]
    return last.partition(":")[2]
