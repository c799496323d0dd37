"""Which part of which repository is meant, checked before any program sees it. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

from toolkeeper.errors import Invalid

Scheme = Literal["https", "http", "ssh", "file"]
EXAMPLE = "https://github.com/OWNER/REPOSITORY.git, git@HOST:REPOSITORY.git or file:///srv/repository.git"
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^\s:-]\S*")
_REF = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)|[/.]$))[^\x00-\x20\x7f~^:?*\[\\]{1,250}")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Address:
    """A folder at a ref of a repository. There is no credential in it, so it may be shown anywhere."""

    url: str
    ref: str
    path: str
    """Of the folder, with `/`; empty for the whole repository."""
    scheme: Scheme

    @classmethod
    def of(cls, url: str, ref: str = "HEAD", path: str = "") -> Self:
        """Checked. Raises Invalid, never repeating a URL that may hold a password."""
        url, scheme = _url(url)
        if ref != "HEAD" and not _REF.fullmatch(ref):
            raise Invalid(
                f"{ref!r} is no branch, tag or commit: give its name, or all 40 characters of the commit"
            )
        return cls(url, ref, _path(path), scheme)

    @property
    def commit(self) -> str | None:
        """The commit, if the ref names one for ever."""
        return self.ref if _COMMIT.fullmatch(self.ref) else None

    @property
    def id(self) -> str:
        """A name for the cache, the same for the same address."""
        return hashlib.sha256(f"{self.url}\n{self.ref}\n{self.path}".encode()).hexdigest()[:16]

    @property
    def local(self) -> bool:
        """Whether nothing of it goes over a network."""
        host = urlsplit(self.url).hostname if self.scheme == "http" else None
        return self.scheme == "file" or host in {"localhost", "127.0.0.1", "::1"}

    def __str__(self) -> str:
        return f"{self.url}@{self.ref}" + (f":{self.path}" if self.path else "")


def _url(url: str) -> tuple[str, Scheme]:
    if not url or url.startswith("-") or re.search(r"[\x00-\x20\x7f]", url):
        raise Invalid(f"--git is not the URL of a repository: give {EXAMPLE}")
    if url.startswith("/"):
        return f"file://{url}", "file"
    if "://" not in url:
        if _SCP.fullmatch(url):
            return url, "ssh"
        raise Invalid(f"--git is not the URL of a repository: give {EXAMPLE}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise Invalid(f"--git is not a URL: give {EXAMPLE}") from exc
    return url, _scheme(parts)


def _scheme(parts: SplitResult) -> Scheme:
    scheme = parts.scheme.lower()
    if parts.password is not None or (scheme in {"http", "https"} and parts.username is not None):
        raise Invalid("--git holds a credential: leave it out, and name it with --git-credentials file:PATH")
    if parts.query or parts.fragment:
        raise Invalid("--git must end with the repository's path: leave out what begins with '?' or '#'")
    if scheme in {"http", "https", "ssh"}:
        if not parts.hostname or "-" in {parts.hostname[0], parts.netloc[0]} or not parts.path.strip("/"):
            raise Invalid(f"--git names no host or no repository: give {EXAMPLE}")
        return "https" if scheme == "https" else "http" if scheme == "http" else "ssh"
    if scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            raise Invalid("--git names no local repository: give file:///PATH, with three slashes")
        return "file"
    raise Invalid(f"--git cannot use {scheme}://: give {EXAMPLE}")


def _path(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\0" in path or any(part.lower() == ".git" for part in parts):
        raise Invalid(f"--path {path} must lead from the top of the repository to a folder in it")
    return "/".join(parts)
