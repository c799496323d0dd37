"""Real Git repositories for tests, and git's own server over HTTP, which can be broken on purpose."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", ""),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    # Each commit would otherwise start a second program, to see whether there is anything to collect.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "maintenance.auto",
    "GIT_CONFIG_VALUE_0": "false",
    "GIT_TEMPLATE_DIR": "",
    "GIT_AUTHOR_NAME": "somebody",
    "GIT_AUTHOR_EMAIL": "somebody@example.org",
    "GIT_COMMITTER_NAME": "somebody",
    "GIT_COMMITTER_EMAIL": "somebody@example.org",
}


class GitRepository:
    """A repository that somebody works in: files in, commits out. Others pull from it directly."""

    def __init__(self, folder: Path, branch: str = "main", object_format: str = "sha1") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", branch, f"--object-format={object_format}")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Begin")

    @property
    def url(self) -> str:
        """Where it is pulled from."""
        return f"file://{self.folder}"

    def git(self, *arguments: str, stdin: str | None = None) -> str:
        """What that command of git says. Raises CalledProcessError."""
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            env=ENVIRONMENT,
            input=stdin,
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, path: str, text: str | None) -> None:
        """Write the file, or remove it for None."""
        file = self.folder / path
        if text is None:
            file.unlink()
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, files: Mapping[str, str | None] | None = None, *options: str) -> str:
        """Commit everything that is in the folder, after writing these files. The new commit."""
        for path, text in (files or {}).items():
            self.write(path, text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Change", *options)
        return self.head

    @property
    def head(self) -> str:
        """The newest commit; read, because a program for each time it is asked would take longer than the rest."""
        branch = (self.folder / ".git" / "HEAD").read_text().removeprefix("ref: ")
        return (self.folder / ".git" / branch.strip()).read_text().strip()


class GitServer:
    """Serves every repository below a folder at `http[s]://127.0.0.1:PORT/`, for whoever logs in rightly."""

    def __init__(self, root: Path, tls: ssl.SSLContext | None = None) -> None:
        self.root = root
        self._scheme = "http" if tls is None else "https"
        self.login: str | None = None
        """`user:password` that is asked for."""
        self.status: int | None = None
        """Answered to everything instead."""
        self.moved_to: str | None = None
        """Where everybody is sent."""
        self.cut_after: int | None = None
        """Bytes of the answer that carries the objects, before the connection breaks."""
        self.stalled = threading.Event()
        """While set, the answer that carries the objects does not come."""
        self.waiting = threading.Event()
        """Set once somebody waits for a stalled answer."""
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": self}))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def address(self) -> str:
        """Of the server."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def url(self, repository: GitRepository) -> str:
        """Where a repository below the root is pulled from."""
        return f"{self.address}/{repository.folder.relative_to(self.root)}/.git"

    @contextmanager
    def running(self) -> Iterator[GitServer]:
        """Serve while the context lasts."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stalled.clear()
            self.close()
            thread.join()

    def close(self) -> None:
        """Be down."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: GitServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """The tests ask `requests`."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.served.requests.append(f"{self.command} {self.path}")
        if (authorization := self.headers.get("Authorization")) is not None:
            self.served.authorizations.append(authorization)
        if self.served.moved_to is not None:
            self._say(302, {"Location": self.served.moved_to + self.path})
        elif self.served.status is not None:
            self._say(self.served.status, {})
        elif not self._may():
            self._say(401, {"WWW-Authenticate": 'Basic realm="test"'})
        else:
            self._serve(body)

    def _may(self) -> bool:
        if self.served.login is None:
            return True
        expected = base64.b64encode(self.served.login.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _serve(self, body: bytes) -> None:
        objects = self.path.endswith("git-upload-pack") and b"want " in body
        if objects and self.served.stalled.is_set():
            self.served.waiting.set()
            while self.served.stalled.is_set():
                threading.Event().wait(0.02)
        head, _, content = self._backend(body).partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        if objects and self.served.cut_after is not None:
            self._say(status, fields, content[: self.served.cut_after], length=len(content))
            self.close_connection = True
        else:
            self._say(status, fields, content)

    def _backend(self, body: bytes) -> bytes:
        parts = urlsplit(self.path)
        environment = ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(self.served.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        command = ["git", "http-backend"]
        return subprocess.run(command, env=environment, input=body, capture_output=True, check=True).stdout

    def _say(
        self, status: int, fields: Mapping[str, str], content: bytes = b"", length: int | None = None
    ) -> None:
        with suppress(OSError):  # whoever asked may be gone
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)
