"""Who may come in: bearer tokens, several at once so that they can be rotated, and few wrong guesses."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkeeper.clock import Clock
from toolkeeper.errors import Invalid

GUESSES = 10
"""Wrong tokens in a row that a peer may show,"""
SECONDS_PER_GUESS = 6.0
"""and how long until it may show another."""
MOST_PEERS = 4096
SHORTEST_TOKEN = 16


class TokenFile:
    """Tokens, one per line, `#` starts a comment. Read again when the file changes, so rotation needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._digests: tuple[bytes, ...] = ()
        self.digests()

    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 of every valid token. A file that vanished or became unreadable changes nothing.

        Raises Invalid the first time when it has no token or one that can be guessed.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._digests = _digests(self._path.read_text().splitlines(), str(self._path))
                self._stamp = stamp
        except (OSError, Invalid) as exc:
            if not self._digests:
                raise Invalid(f"no token can be read from {self._path}: {exc}") from exc
        return self._digests


class Tokens:
    """Tokens that are given as values."""

    def __init__(self, *tokens: str) -> None:
        self._digests = _digests(tokens, "the list of tokens")

    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 of every token."""
        return self._digests


def _digests(lines: Iterable[str], where: str) -> tuple[bytes, ...]:
    tokens = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not tokens:
        raise Invalid(f"{where} has no token")
    if any(len(token) < SHORTEST_TOKEN for token in tokens):
        raise Invalid(f"{where} has a token of less than {SHORTEST_TOKEN} characters")
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)


def token_file(path: Path, new_token: str) -> bool:
    """Make sure that there is a token file, readable by its owner only. True when `new_token` was written to it.

    Raises Invalid when others may read an existing one: its tokens must be taken for known.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Invalid(
                f"{path} may be read by others (mode {mode:04o}): chmod 600, and rotate it"
            ) from None
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(new_token + "\n")
    return True


@dataclass(slots=True)
class _Bucket:
    guesses: float
    at: float


class Gate:
    """Decides about one request. A right token always passes: its 256 bits are not guessed, so nobody who shares an
    address with a guesser needs to be locked out."""

    def __init__(self, tokens: Tokens | TokenFile, clock: Clock, *, guesses: int = GUESSES) -> None:
        self._tokens = tokens
        self._clock = clock
        self._most = guesses
        self._peers: OrderedDict[str, _Bucket] = OrderedDict()

    def admits(self, authorization: str) -> bool:
        """Whether that header carries a valid token. Takes the same time for every wrong one."""
        scheme, _, token = authorization.partition(" ")
        shown = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        matches = [hmac.compare_digest(shown, digest) for digest in self._tokens.digests()]
        return scheme.lower() == "bearer" and any(matches)

    def wait_after_guess(self, peer: str) -> int:
        """Note a wrong token from that peer; seconds that it must wait now, 0 while it has guesses left."""
        now = self._clock.monotonic()
        bucket = self._peers.pop(peer, None) or _Bucket(self._most, now)
        bucket.guesses = min(self._most, bucket.guesses + (now - bucket.at) / SECONDS_PER_GUESS)
        bucket.at = now
        self._peers[peer] = bucket
        if len(self._peers) > MOST_PEERS:
            self._peers.popitem(last=False)
        if bucket.guesses < 1:
            return 1 + int((1 - bucket.guesses) * SECONDS_PER_GUESS)
        bucket.guesses -= 1
        return 0
