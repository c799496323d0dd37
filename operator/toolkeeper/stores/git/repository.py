"""Our own bare copy of a repository: only the newest commit, fetched on demand and read without a work tree."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from toolkeeper.errors import Invalid, NotFound, Refused, ToolkeeperError, Unreachable
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.program import Failed, Git, Run

LARGEST = 512 * 1024 * 1024
"""Bytes of history and files that one fetch may bring."""
PACKS = 30
"""After so many fetches the copy is made anew, which is how what is no longer needed goes."""
KNOWN_HISTORY = 50
"""How far back a rewritten history is told from several commits at once."""
HERE = "refs/toolkeeper/pulled"

_REFUSED = re.compile(
    r"authentication failed|could not read (username|password)|permission denied|error: 40[13]|access denied"
    r"|host key verification failed|invalid username or password|returned error: 40[13]",
    re.IGNORECASE,
)
_HINTS: Sequence[tuple[str, str]] = (
    (
        r"host key verification failed|known_hosts",
        "put the server's key, once you have checked it, into the file of --git-known-hosts (see ssh-keyscan)",
    ),
    (r"permission denied \(", "check --git-ssh-key, and what it may read"),
    (
        r"authentication failed|could not read (username|password)|error: 40[13]|access denied",
        "check --git-credentials, and what they may read",
    ),
    (
        r"not found|does not (exist|appear)|error: 404",
        "check the address; for many servers a private repository does not exist without credentials",
    ),
    (r"error: 30\d|redirect", "it moved, and credentials follow nobody: give its new address"),
    (r"dubious ownership", "give the local repository to the user of the operator, or serve it by ssh"),
    (r"certificate|SSL", "check the server's certificate; GIT_SSL_CAINFO names a CA of your own"),
    (r"no space left", "free space on the disk of the state folder"),
    (r"unadvertised object|not our ref", "the server has no such commit, or hands out none by number"),
)


class Tip(NamedTuple):
    """What a ref means now."""

    name: str
    """The whole name of the ref; the commit itself when it was given by number."""
    commit: str


class Entry(NamedTuple):
    """One line of a tree: a file, a link, or another repository."""

    mode: str
    object: str
    size: int
    path: str


class Repository:
    """The copy in `folder`. Whoever calls holds the lock of the cache, so that nobody else writes there."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git = git
        self._folder = folder

    async def tip(self, address: Address, run: Run) -> Tip:
        """Ask the server. Raises NotFound (no such ref), Refused, Unreachable, Invalid (ambiguous)."""
        if address.commit is not None:
            return Tip(address.commit, address.commit)
        ref = address.ref
        whole = ref == "HEAD" or ref.startswith("refs/")
        names = [ref] if whole else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        said = await self._asked(
            ["ls-remote", "--", address.url, *names, *(f"{name}^{{}}" for name in names)], run
        )
        found = {name: commit for commit, _, name in (line.partition("\t") for line in said.splitlines())}
        there = [name for name in names if name in found]
        if not there:
            raise NotFound(
                f"there is no branch or tag {ref}: has it been deleted? Push it again, or give another --ref"
            )
        if len(there) > 1:
            raise Invalid(f"{ref} is a branch and a tag: give {there[0]} or {there[1]}")
        return Tip(there[0], found.get(f"{there[0]}^{{}}", found[there[0]]))

    async def fetch(self, address: Address, tip: Tip, run: Run) -> str:
        """Bring the newest commit of the ref here, and return it: it may be newer than `tip`.

        Raises Refused, Unreachable, Invalid (no commit).
        """
        run = self._here(run)
        await self._prepare(run, "sha256" if len(tip.commit) == 64 else "sha1")
        await self._fetch(address, tip, run, depth=1)
        try:
            said = await self._git(["rev-parse", "--verify", f"{HERE}^{{commit}}"], run)
        except Failed as exc:
            raise Invalid(f"{address.ref} is no commit ({exc.said})") from exc
        return said.decode().strip()

    async def follows(self, address: Address, tip: Tip, run: Run, *, commit: str, before: str) -> bool | None:
        """Whether `commit` came after `before`, as far as its recent history shows; None when it cannot be told."""
        run = self._here(run)
        with suppress(ToolkeeperError, Failed):
            # The commit itself names its parents, whether or not we have them.
            head = (await self._git(["cat-file", "commit", commit], run)).partition(b"\n\n")[0]
            if f"parent {before}".encode() in head.splitlines():
                return True
            await self._fetch(address, tip, run, depth=KNOWN_HISTORY)
            log = await self._git(["log", "--format=%H", "-n", str(KNOWN_HISTORY), commit], run)
            return before in log.decode().split()
        return None

    async def entries(self, commit: str, path: str, run: Run) -> list[Entry]:
        """Every file, link and submodule below the folder, with paths from it. Raises NotFound, Invalid."""
        run = self._here(run)
        tree = await self._tree(commit, path, run)
        return _entries(await self._read(["ls-tree", "-r", "-z", "-l", "--full-tree", tree], run))

    async def _tree(self, commit: str, path: str, run: Run) -> str:
        if not path:
            return commit
        found = _entries(await self._read(["ls-tree", "-z", "-l", "--full-tree", commit, "--", path], run))
        if not found:
            raise NotFound(f"there is no folder {path} in it: bring it back, or give another --path")
        if found[0].mode != "040000":
            raise NotFound(f"{path} is no folder in it: give another --path")
        return found[0].object

    async def contents(self, entries: Sequence[Entry], run: Run) -> list[bytes]:
        """The bytes of each, as they were committed: no conversion, no filter, no LFS. Raises Unreachable."""
        wanted = "".join(f"{entry.object}\n" for entry in entries).encode()
        largest = sum(entry.size + 128 for entry in entries)
        run = replace(self._here(run), largest=largest)
        said = await self._read(["cat-file", "--batch"], run, stdin=wanted)
        found: list[bytes] = []
        at = 0
        for entry in entries:
            end = said.find(b"\n", at)
            if said[at:end] != f"{entry.object} blob {entry.size}".encode():
                raise Unreachable(f"git says nothing of {entry.path}", reason="SourceUnreachable")
            at = end + 1 + entry.size + 1
            found.append(said[end + 1 : at - 1])
        return found

    def discard(self) -> None:
        """Forget the copy; the next fetch makes it anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _here(self, run: Run) -> Run:
        """As `run`, with our copy as the repository and paths taken as they are."""
        ours = {"GIT_DIR": str(self._folder), "GIT_LITERAL_PATHSPECS": "1"}
        return replace(run, environment={**run.environment, **ours})

    async def _prepare(self, run: Run, object_format: str) -> None:
        """A usable, empty enough copy. What a killed process left behind is removed: we hold the lock."""
        packs = list(self._folder.glob("objects/pack/*.pack"))
        if len(packs) > PACKS or _size(self._folder) > LARGEST:
            self.discard()
        for left in (*self._folder.rglob("*.lock"), *self._folder.rglob("tmp_*")):
            with suppress(OSError):
                left.unlink()
        if not (self._folder / "HEAD").exists() or not (self._folder / "refs").is_dir():
            self.discard()
            named = f"--object-format={object_format}"
            await self._read(["init", "--quiet", "--bare", "--template=", named, str(self._folder)], run)

    async def _fetch(self, address: Address, tip: Tip, run: Run, *, depth: int) -> None:
        before = _size(self._folder)

        def too_much() -> str | None:
            if _size(self._folder) - before > LARGEST:
                return f"the repository is larger than {LARGEST // 2**20} MiB: move the manifests to one of their own"
            return None

        arguments = [
            "fetch", "--quiet", f"--depth={depth}", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--force", "--", address.url, f"+{tip.name}:{HERE}",
        ]  # fmt: skip
        try:
            await self._asked(arguments, replace(run, too_much=too_much))
        except ToolkeeperError:
            # The server answered a moment ago, so it may be our copy that is damaged. It holds nothing of its own.
            self.discard()
            raise

    async def _asked(self, arguments: Sequence[str], run: Run) -> str:
        """Output of a call that talks to the server. Raises Refused, Unreachable."""
        try:
            return (await self._git(arguments, run)).decode("utf-8", "replace")
        except Failed as exc:
            hint = next(
                (f": {hint}" for sign, hint in _HINTS if re.search(sign, exc.said, re.IGNORECASE)), ""
            )
            if _REFUSED.search(exc.said):
                raise Refused(f"{exc.said}{hint}", reason="SourceRefused") from exc
            raise Unreachable(f"{exc.said}{hint}", reason="SourceUnreachable") from exc

    async def _read(self, arguments: Sequence[str], run: Run, *, stdin: bytes = b"") -> bytes:
        try:
            return await self._git(arguments, run, stdin=stdin)
        except Failed as exc:
            # The copy may be damaged: by a full disk, by a crash of the machine. It holds nothing of its own.
            self.discard()
            raise Unreachable(f"{exc.said}: it is fetched anew", reason="SourceUnreachable") from exc


def _entries(said: bytes) -> list[Entry]:
    lines = said.decode("utf-8", "surrogateescape").split("\0")
    return [_entry(line) for line in lines if line]


def _entry(line: str) -> Entry:
    facts, _, path = line.partition("\t")
    mode, _, id, size = facts.split()
    return Entry(mode, id, 0 if size == "-" else int(size), path)


def _size(folder: Path) -> int:
    total = 0
    for each in folder.rglob("*"):
        with suppress(OSError):  # it comes and goes while git works
            total += each.lstat().st_size
    return total
