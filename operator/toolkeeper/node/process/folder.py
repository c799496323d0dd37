"""What the process runtime keeps of one server on disk: how to launch it, how its runs went, its logs.

<folder>/launch     how to start it, sealed: it holds secret values
<folder>/turns.json how its runs went
<folder>/exit       the run that ended last, and its exit code; the shell writes it
<folder>/input      the FIFO of a stdio server;  output: its stdout, the protocol
<folder>/log        stderr, and stdout of all others; log.1, log.2 older
<folder>/home       its home directory
<folder>/files      its files
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import TypeAdapter, ValidationError

from toolkeeper.errors import ToolkeeperError
from toolkeeper.node.private_files import replace_file
from toolkeeper.node.process.launch import Launch, Turns

_LAUNCH = TypeAdapter(Launch)
_TURNS = TypeAdapter(Turns)
LONGEST_LINE = 16 * 1024


class Seal:
    """Seals what holds secrets; the key is a file of its own, apart from what it seals."""

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = Fernet.generate_key()
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
        self._fernet = Fernet(key)

    def close(self, content: bytes) -> bytes:
        """Sealed."""
        return self._fernet.encrypt(content)

    def open(self, content: bytes) -> bytes:
        """Unsealed. Raises ToolkeeperError when it was sealed with another key."""
        try:
            return self._fernet.decrypt(content)
        except InvalidToken as exc:
            raise ToolkeeperError("sealed with another key") from exc


class Folder:
    """One server's folder, mode 0700."""

    def __init__(self, path: Path, seal: Seal) -> None:
        self.path = path
        self._seal = seal
        self.log = path / "log"
        self.input = path / "input"
        self.output = path / "output"
        self.home = path / "home"

    def make(self, launch: Launch) -> None:
        """On disk, whole or not at all: the launch is written last, and a folder without one is no server."""
        (self.home / "tmp").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        if launch.transport == "stdio" and not self.input.exists():
            os.mkfifo(self.input, 0o600)
        self.note(Turns(since=launch.created))
        replace_file(self.path / "launch", self._seal.close(_LAUNCH.dump_json(launch)))

    def place(self, number: int, content: str) -> Path:
        """Keep a small file there; where it is."""
        path = self.path / "files" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(path, content.encode())
        return path

    def launch(self) -> Launch:
        """As it was made. Raises ToolkeeperError when it cannot be read."""
        try:
            return _LAUNCH.validate_json(self._seal.open((self.path / "launch").read_bytes()))
        except (OSError, ValidationError) as exc:
            raise ToolkeeperError(f"{self.path / 'launch'} cannot be read: {exc}") from exc

    def turns(self) -> Turns:
        """How its runs went, as far as anybody noted."""
        try:
            return _TURNS.validate_json((self.path / "turns.json").read_bytes())
        except (OSError, ValidationError):
            return Turns()

    def note(self, turns: Turns) -> None:
        """On disk when this returns."""
        replace_file(self.path / "turns.json", _TURNS.dump_json(turns))

    def remove(self) -> None:
        """Everything. The launch goes first: half a folder is no server."""
        (self.path / "launch").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def tail(self, lines: int) -> tuple[list[str], int]:
        """The last lines of the log, and the offset after them."""
        found: list[str] = []
        offset = 0
        for path in (self.log, *self._older()):
            try:
                content = _end_of(path, lines)
            except OSError:
                continue
            if path == self.log:
                offset = path.stat().st_size
            found = content[max(0, len(content) - (lines - len(found))) :] + found
            if len(found) >= lines:
                break
        return found if lines else [], offset

    def read(self, offset: int) -> tuple[bytes, int]:
        """What the log has from there, 64 KiB at most, and the next offset. A rotated log is read from its start."""
        try:
            if self.log.stat().st_size < offset:
                offset = 0
            with self.log.open("rb") as file:
                file.seek(offset)
                content = file.read(65536)
        except OSError:
            return b"", offset
        return content, offset + len(content)

    def rotate(self, size: int, files: int) -> None:
        """Keep the log within bounds. The server goes on writing to the same file, so it is copied and emptied."""
        try:
            if self.log.stat().st_size <= size:
                return
            for number in range(max(1, files) - 1, 0, -1):
                newer = self.path / f"log.{number - 1}" if number > 1 else self.log
                if newer == self.log:
                    shutil.copyfile(newer, self.path / f"log.{number}")
                elif newer.exists():
                    newer.replace(self.path / f"log.{number}")
            os.truncate(self.log, 0)
        except OSError:
            return  # a full disk; the next round tries again

    def _older(self) -> Iterator[Path]:
        number = 1
        while (path := self.path / f"log.{number}").exists():
            yield path
            number += 1


def _end_of(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - max(65536, lines * 512)))
        content = file.read()
    found = content.decode(errors="replace").splitlines()
    return [line[:LONGEST_LINE] for line in found[-lines:]] if lines else []
