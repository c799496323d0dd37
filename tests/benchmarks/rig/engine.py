"""Docker's API without a client library: what the baselines are made of, and what tidies up after a run."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

Json = Any
API = "/v1.41"


class EngineError(Exception):
    """An answer that is no success."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """One daemon. Each thread has a connection of its own, kept open."""

    def __init__(self) -> None:
        self.socket = Path(
            os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        )
        self._mine = threading.local()

    def silent(self) -> str | None:
        """Why no daemon answers; None if one does."""
        try:
            self.call("GET", "/_ping")
        except OSError as error:
            return f"no Docker daemon answers at {self.socket}: {error}"
        return None

    def call(self, method: str, path: str, body: Json = None) -> Json:
        """The decoded answer. Raises EngineError."""
        given = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if given else {}
        return self._sent(method, path, given, headers)

    def load(self, path: str, archive: bytes) -> Json:
        """As `call` with POST, for a body that is a tar archive."""
        return self._sent("POST", path, archive, {"Content-Type": "application/x-tar"})

    def close(self) -> None:
        """Give this thread's connection back."""
        connection = getattr(self._mine, "connection", None)
        if connection is not None:
            connection.close()
            self._mine.connection = None

    def _sent(self, method: str, path: str, body: str | bytes | None, headers: dict[str, str]) -> Json:
        try:
            answer, content = self._exchange(method, path, body, headers)
        except ConnectionError:  # kept open for long, and closed by the daemon meanwhile
            self.close()
            answer, content = self._exchange(method, path, body, headers)
        if answer.status >= 400:
            raise EngineError(f"{method} {path}: {answer.status} {content.decode(errors='replace').strip()}")
        try:
            return json.loads(content) if content else None
        except ValueError:
            return content.decode(errors="replace")

    def _exchange(
        self, method: str, path: str, body: str | bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = _UnixConnection(str(self.socket))
        connection.request(method, API + path, body, headers)
        answer: http.client.HTTPResponse = connection.getresponse()
        return answer, answer.read()

    def create(self, name: str, body: Json) -> str:
        """Make a container; returns its id."""
        return str(self.call("POST", f"/containers/create?name={name}", body)["Id"])

    def start(self, id: str) -> None:
        """Start a container."""
        self.call("POST", f"/containers/{id}/start")

    def remove(self, id: str) -> None:
        """As `docker rm -f`."""
        self.call("DELETE", f"/containers/{id}?force=true&v=true")

    def labelled(self, label: str) -> list[Json]:
        """All containers with that label, in whatever state."""
        filters = quote(json.dumps({"label": [label]}))
        found: list[Json] = self.call("GET", f"/containers/json?all=true&filters={filters}")
        return found

    def inspect(self, name: str) -> Json:
        """One container."""
        return self.call("GET", f"/containers/{name}/json")

    def has_image(self, name: str) -> bool:
        """Whether the image is on the host."""
        try:
            self.call("GET", f"/images/{name}/json")
        except EngineError:
            return False
        return True

    def sweep(self, label: str, networks: str) -> None:
        """Remove the containers with that label, and the networks whose names begin so."""
        for each in self.labelled(label):
            self.remove(each["Id"])
        for each in self.call("GET", "/networks"):
            if each["Name"].startswith(networks):
                self.call("DELETE", f"/networks/{each['Id']}")
