"""What proves to a Git server, or to us, who somebody is: named by reference, read at the last moment, kept nowhere."""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from toolkeeper.errors import Invalid, Refused
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.program import Run

LARGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is: `file:PATH` or `env:NAME`."""

    kind: str
    place: str

    @classmethod
    def of(cls, text: str, option: str) -> Reference:
        """Raises Invalid, without repeating what may be the secret itself."""
        kind, separator, place = text.partition(":")
        if kind not in {"file", "env"} or not separator or not place:
            raise Invalid(f"{option} names where the secret is, not the secret: give file:PATH or env:NAME")
        return cls(kind, place)

    def read(self, option: str, environment: Mapping[str, str] = os.environ) -> str:
        """The secret as it is now, without one trailing line break. Raises Refused."""
        if self.kind == "env":
            text = environment.get(self.place, "")
        else:
            try:
                with Path(self.place).open("rb") as opened:
                    text = opened.read(LARGEST + 1).decode()
            except OSError as exc:
                raise Refused(f"{option} {self}: {exc.strerror}", reason="SecretUnreadable") from exc
            except UnicodeDecodeError:
                raise Refused(f"{option} {self}: it is not text", reason="SecretUnreadable") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text.strip():
            raise Refused(f"{option} {self}: it is empty", reason="SecretUnreadable")
        if len(text) > LARGEST or re.search(r"[\x00-\x1f\x7f]", text):
            raise Refused(f"{option} {self}: it must be one line of text", reason="SecretUnreadable")
        return text

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}"


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in to the server of one address."""

    address: Address
    credentials: Reference | None = None
    """`user:password`, or a token alone, for https."""
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    patience: float = 120.0
    """Seconds until one call of git is ended."""

    def check(self) -> None:
        """Raises Invalid for what cannot be used with the address."""
        scheme = self.address.scheme
        if self.credentials is not None and scheme not in {"http", "https"}:
            raise Invalid(
                f"--git-credentials is for https, and this is {scheme}: leave it out"
                + (", and give --git-ssh-key" if scheme == "ssh" else "")
            )
        if self.credentials is not None and scheme == "http" and not self.address.local:
            raise Invalid("--git-credentials would travel unencrypted over http: use https")
        for option, path in (("--git-ssh-key", self.ssh_key), ("--git-known-hosts", self.known_hosts)):
            if path is not None and scheme != "ssh":
                raise Invalid(f"{option} is for ssh, and this is {scheme}: leave it out")
            if path is not None and not path.is_file():
                raise Invalid(f"{option} {path}: there is no such file")

    def run(self, held: tuple[int, ...] = ()) -> Run:
        """What git needs to reach the address. Raises Refused when the credentials cannot be read now."""
        settings = {f"protocol.{self.address.scheme}.allow": "always"}
        secret = ""
        if self.credentials is not None:
            secret = self.credentials.read("--git-credentials", self.environment)
            login = secret if ":" in secret else f"x-access-token:{secret}"
            secret = secret.partition(":")[2] or secret
            # Only for this server, by git's own rule for URLs.
            settings[f"http.{_server(self.address.url)}.extraHeader"] = (
                f"Authorization: Basic {base64.b64encode(login.encode()).decode()}"
            )
        environment = {"GIT_SSH_COMMAND": self._ssh()} if self.address.scheme == "ssh" else {}
        return Run(settings, environment, secret, held, seconds=self.patience)

    def _ssh(self) -> str:
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
        ]
        if self.known_hosts is not None:
            options.append(f"UserKnownHostsFile={_quoted(self.known_hosts)}")
        command = ["ssh", *(part for option in options for part in ("-o", option))]
        if self.ssh_key is not None:
            command += ["-o", "IdentitiesOnly=yes", "-i", str(self.ssh_key.absolute())]
        return shlex.join(command)


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _quoted(path: Path) -> str:
    """As ssh reads a file name in an option."""
    return '"' + str(path.absolute()).replace("%", "%%") + '"'
