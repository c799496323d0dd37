"""Secrets, as far as the loop touches them: digests to compare with, and values for the length of one call.

A digest is keyed by the installation, so that it tells nobody whether two secrets are equal or what a guess is worth.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from toolkeeper.clock import Clock
from toolkeeper.errors import NotFound, NotReadyYet, Refused, ToolkeeperError, Unreachable
from toolkeeper.reconcile.backoff import jittered
from toolkeeper.reconcile.ports import Secret, Store
from toolkeeper.resources.meta import CREDENTIAL, FOR_TOOLBOXES

Use = tuple[str, str]
"""(secret, key) within a namespace."""


class Problem(NamedTuple):
    """Why there is no digest."""

    reason: str
    """One of `toolkeeper.resources.reasons`."""
    message: str


@dataclass(frozen=True, slots=True)
class Versions:
    """What is known of some secrets now."""

    digests: Mapping[str, str]
    """`<secret>/<key>` → digest of its value."""
    problems: Mapping[str, Problem]
    """`<secret>/<key>` → why there is none."""


NEVER = float("-inf")
UNREAD = Problem("ReadingSecrets", "it is being read")
NOTHING = Versions({}, {})


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """Seconds throughout."""

    every: float = 60.0
    """Between readings of a secret that is in use."""
    every_missing: float = 10.0
    """Between readings of one that could not be read."""
    patience: float = 5.0
    """For one reading."""
    first_patience: float = 1.0
    """That a pass has with the first reading; it goes on without, and comes back when it is done."""
    unused_after: float = 900.0
    """A secret that nobody asked about for so long is no longer read."""


@dataclass(slots=True)
class _Entry:
    digests: Mapping[str, str] = field(default_factory=dict)
    problem: Problem | None = UNREAD
    read_at: float = NEVER
    asked_at: float = 0.0


class Keyring:
    """Digests of the secrets in use, re-read now and then; `changed(namespace, name)` is called on a rotation."""

    def __init__(
        self,
        store: Store,
        key: bytes,
        changed: Callable[[str, str], None],
        *,
        clock: Clock,
        rng: Random,
        settings: KeyringSettings | None = None,
    ) -> None:
        self._store, self._key, self._changed = store, key, changed
        self._clock, self._rng = clock, rng
        self._settings = settings or KeyringSettings()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def read(self, namespace: str, uses: Sequence[Use]) -> None:
        """Read what was never read; but wait for it only so long, for others wait too."""
        now, unknown = self._clock.monotonic(), []
        for name in dict.fromkeys(name for name, _ in uses):
            entry = self._entries.setdefault((namespace, name), _Entry())
            entry.asked_at = now
            if entry.read_at == NEVER:
                unknown.append(self._read_soon(namespace, name))
        if unknown:
            await asyncio.wait(unknown, timeout=self._settings.first_patience)

    def versions(self, namespace: str, uses: Sequence[Use]) -> Versions:
        """What is known of these now."""
        if not uses:
            return NOTHING
        digests: dict[str, str] = {}
        problems: dict[str, Problem] = {}
        for name, key in uses:
            entry = self._entries.get((namespace, name)) or _Entry()
            if key in entry.digests:
                digests[f"{name}/{key}"] = entry.digests[key]
            else:
                problems[f"{name}/{key}"] = entry.problem or Problem(
                    "SecretMissing", f"the secret {name} has no key {key}"
                )
        return Versions(digests, problems)

    async def values(
        self, namespace: str, uses: Iterable[Use], expected: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The values, read now. Raises NotReadyYet when one is not what `expected` (by digest) was decided on."""
        found: dict[str, str] = {}
        secrets: dict[str, Secret] = {}
        for name, key in uses:
            if name not in secrets:
                secrets[name] = await self._fetch(namespace, name)
            value = secrets[name].values.get(key)
            reference = f"{name}/{key}"
            version = None if value is None else digest(self._key, namespace, name, key, value)
            if value is None or expected.get(reference, version) != version:
                self._entries.pop((namespace, name), None)
                self._changed(namespace, name)
                raise NotReadyYet(f"the secret {namespace}/{reference} has just changed")
            found[reference] = value
        return found

    async def run(self) -> None:
        """Re-read what is in use, for ever."""
        while True:
            await asyncio.sleep(jittered(self._settings.every_missing, self._rng))
            now = self._clock.monotonic()
            for (namespace, name), entry in list(self._entries.items()):
                if now - entry.asked_at > self._settings.unused_after:
                    del self._entries[namespace, name]
                elif entry.problem or now - entry.read_at >= self._settings.every:
                    self._read_soon(namespace, name)

    def refresh(self) -> None:
        """Something in the store changed, perhaps a secret: read them all again soon."""
        for namespace, name in list(self._entries):
            self._read_soon(namespace, name)

    def close(self) -> None:
        """Stop reading."""
        for task in self._reading.values():
            task.cancel()

    def _read_soon(self, namespace: str, name: str) -> asyncio.Task[None]:
        known = self._reading.get((namespace, name))
        if known is None:
            known = asyncio.get_running_loop().create_task(self._read(namespace, name))
            self._reading[namespace, name] = known
            known.add_done_callback(lambda _: self._reading.pop((namespace, name), None))
        return known

    async def _read(self, namespace: str, name: str) -> None:
        try:
            secret = await self._fetch(namespace, name)
        except NotFound as exc:
            self._learn(namespace, name, {}, Problem("SecretMissing", str(exc)))
        except Refused as exc:
            self._learn(namespace, name, {}, Problem(exc.reason, str(exc)))
        except ToolkeeperError as exc:
            # Not knowing is not the same as gone: what was known stays in force.
            entry = self._entries.get((namespace, name))
            if entry is not None and not entry.digests:
                told = Problem("StoreUnreachable", f"it cannot be read now: {exc}")
                self._learn(namespace, name, {}, told)
        else:
            digests = {
                key: digest(self._key, namespace, name, key, value) for key, value in secret.values.items()
            }
            self._learn(namespace, name, digests, None)

    async def _fetch(self, namespace: str, name: str) -> Secret:
        try:
            async with asyncio.timeout(self._settings.patience):
                secret = await self._store.secret(namespace, name)
        except TimeoutError as exc:
            raise Unreachable(
                f"the secret {namespace}/{name} was not read in time", reason="StoreUnreachable"
            ) from exc
        mark = secret.labels.get(CREDENTIAL)
        if mark == FOR_TOOLBOXES:
            raise Refused(f"the secret {namespace}/{name} is for toolboxes only", reason="SecretForToolboxes")
        # A file needs no mark, but whoever wrote one may have meant to keep servers out.
        if mark not in (None, "true"):
            says = f"its label {CREDENTIAL}={mark!r} means nothing, write true or {FOR_TOOLBOXES}"
            raise Refused(
                f"the secret {namespace}/{name} is not marked for use: {says}", reason="SecretNotMarked"
            )
        return secret

    def _learn(self, namespace: str, name: str, digests: Mapping[str, str], problem: Problem | None) -> None:
        entry = self._entries.get((namespace, name))
        if entry is None:
            return
        news = entry.digests != digests or entry.problem != problem
        entry.digests, entry.problem, entry.read_at = digests, problem, self._clock.monotonic()
        if news:
            self._changed(namespace, name)


def digest(installation_key: bytes, namespace: str, name: str, key: str, value: str) -> str:
    """16 hex digits that change with the value."""
    text = "\0".join((namespace, name, key, value))
    return hmac.new(installation_key, text.encode(), hashlib.sha256).hexdigest()[:16]
