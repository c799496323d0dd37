"""The program `toolkeeper node`: a node, served over HTTP. `up` embeds the same."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import random
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from toolkeeper.clock import Clock
from toolkeeper.errors import Invalid
from toolkeeper.node.app import make_app
from toolkeeper.node.certificate import ensure_certificate, fingerprint_of
from toolkeeper.node.choosing import Needs, choose
from toolkeeper.node.gate import Gate, TokenFile, token_file
from toolkeeper.node.node import Node
from toolkeeper.node.notebook import Notebook
from toolkeeper.node.revisions import Revisions
from toolkeeper.node.settings import NodeSettings
from toolkeeper.telemetry.logs import Log, configured

BACKLOG = 256
GOODBYE_SECONDS = 2
"""What open requests get when the node stops; long polls are answered at once."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A node that is up."""

    endpoint: str
    """As this machine reaches it."""
    fingerprint: str
    """Of its certificate; empty without TLS."""
    tokens: Path
    runtime: str
    because: str
    """Why that runtime."""
    node: Node


@asynccontextmanager
async def serving(
    settings: NodeSettings,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    log: Log | None = None,
    new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    needs: Needs | None = None,
) -> AsyncIterator[Serving]:
    """Serve a node for as long as the context lasts. Containers go on afterwards.

    `log` is made by the settings if not given. Raises Invalid (settings, files), Refused and Unreachable (the runtime
    that was asked for cannot be used).
    """
    log = log or configured(format=settings.log_format, program="node")
    prepare(settings)
    tls = certificate_of(settings, clock)
    gate = Gate(TokenFile(settings.tokens), clock)
    with (
        alone(settings.state_dir),
        listening(settings.host, settings.port) as listener,
        closing(Notebook(settings.state_dir / "node.db")) as notebook,
    ):
        chosen = await choose(
            settings,
            clock=clock,
            environ=environ,
            new_id=new_id,
            chance=random.SystemRandom(),
            log=log,
            needs=needs,
        )
        node = Node(chosen.runtime, notebook, Revisions(new_id()[:12]), clock=clock, log=log)
        try:
            await node.open()
            app = make_app(node, gate=gate, clock=clock, new_id=lambda: new_id()[:16], log=log)
            async with served(app, listener, tls, node):
                yield Serving(
                    endpoint=_endpoint(listener, encrypted=tls is not None),
                    fingerprint=fingerprint_of(tls[0]) if tls else "",
                    tokens=settings.tokens,
                    runtime=chosen.runtime.name,
                    because=chosen.because,
                    node=node,
                )
        finally:
            await node.aclose()


async def run(
    settings: NodeSettings,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    say: Callable[[str], None],
) -> None:
    """Serve until `stop` is set; `say` gets the lines for whoever started it."""
    async with serving(settings, clock=clock, environ=environ) as up:
        say(f"toolkeeper node at {up.endpoint}, runtime {up.runtime}: {up.because}")
        say(f"token in {up.tokens}")
        if up.fingerprint:
            say(f"certificate {up.fingerprint}")
        elif not settings.loopback:
            say(
                f"warning: {settings.host} is not this machine alone, and without TLS whoever is on the way reads the "
                "token: use --tls auto, or --host 127.0.0.1 behind a proxy that speaks TLS"
            )
        await stop.wait()
        say("stopping; servers go on running")


@contextmanager
def alone(state_dir: Path) -> Generator[None]:
    """Hold the state directory: two nodes would both start, stop and probe what is in it. Raises Invalid."""
    with (state_dir / "pid").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Invalid(
                f"another node (process {file.read().strip()}) works with {state_dir}: "
                "stop it first, or name another folder with --state-dir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def prepare(settings: NodeSettings) -> None:
    """The state directory, mode 0700, with a token in it. Raises Invalid."""
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        token_file(settings.tokens, secrets.token_urlsafe(32))
    except PermissionError as exc:
        raise Invalid(
            f"{settings.state_dir} cannot be used ({exc.strerror}): "
            "be root, or name another folder with --state-dir (servers on Docker need root or its group)"
        ) from exc
    except OSError as exc:
        raise Invalid(f"{settings.state_dir} cannot be used: {exc}") from exc


def certificate_of(settings: NodeSettings, clock: Clock) -> tuple[Path, Path] | None:
    """Paths of certificate and key, if the API speaks TLS. Raises Invalid."""
    if not settings.encrypted:
        if settings.tls_certificate or settings.tls_key:
            raise Invalid("tls is off: a certificate or a key would have no effect")
        return None
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise Invalid("tls_certificate and tls_key belong together")
    if settings.tls_certificate and settings.tls_key:
        return _usable(settings.tls_certificate, settings.tls_key)
    return ensure_certificate(settings.state_dir, [*settings.tls_names, settings.host], clock.now())


def _usable(certificate: Path, key: Path) -> tuple[Path, Path]:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as exc:  # an SSLError is one
        raise Invalid(f"{certificate} and {key} cannot be used as certificate and key: {exc}") from exc
    return certificate, key


@contextmanager
def listening(host: str, port: int) -> Generator[socket.socket]:
    """A listening socket, closed afterwards. Raises Invalid."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise Invalid(
                f"{host}:{port} is in use: stop what listens there, or name another --port"
            ) from exc
        raise Invalid(f"{host}:{port} cannot be listened on: {exc.strerror or exc}") from exc
    # asyncio sets it only on sockets that it made itself; without it every answer may wait 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


@asynccontextmanager
async def served(
    app: ASGIApp, listener: socket.socket, tls: tuple[Path, Path] | None, node: Node
) -> AsyncIterator[None]:
    """The application answers on that socket; leaving answers everybody who waits, and stops."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn sets a flag, no event
            await asyncio.sleep(0.005)
        yield
    finally:
        node.say_goodbye()
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """Leaves signals to the program around it: it may be embedded."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _endpoint(listener: socket.socket, *, encrypted: bool) -> str:
    host, port = listener.getsockname()[:2]
    everywhere = ipaddress.ip_address(host).is_unspecified
    shown = "127.0.0.1" if everywhere else f"[{host}]" if ":" in host else host
    return f"{'https' if encrypted else 'http'}://{shown}:{port}"
