"""The node as a program: its files, its token, its certificate, its end."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.dtma.client import NodeClient, Trust
from toolkeeper.errors import Invalid, Refused, Unreachable
from toolkeeper.node.choosing import RECORD, in_bridge_container
from toolkeeper.node.gate import GUESSES, SECONDS_PER_GUESS, Gate, TokenFile, Tokens, token_file
from toolkeeper.node.main import Serving, certificate_of, prepare, run, serving
from toolkeeper.node.settings import NodeSettings, settings_from
from toolkeeper.telemetry.logs import Silent

LONG = "a token that nobody guesses"
OTHER = "another token that nobody guesses"


@dataclass
class Watch:
    """A clock that a test turns."""

    seconds: float = 0.0
    start: datetime = field(default=datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.start

    def monotonic(self) -> float:
        return self.seconds


def settings(tmp_path: Path, **changes: object) -> NodeSettings:
    values = {"state_dir": tmp_path / "state", "port": 0, "runtime": "process", **changes}
    return NodeSettings.model_validate(values)


def client(up: Serving) -> NodeClient:
    trust = Trust(fingerprints=(up.fingerprint,)) if up.fingerprint else None
    return NodeClient(up.endpoint, token=up.tokens.read_text().strip(), trust=trust)


# Serving


@pytest.mark.anyio
async def test_a_first_start_makes_a_token_that_only_its_owner_reads(tmp_path: Path) -> None:
    async with serving(settings(tmp_path), clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        node = client(up)
        assert (await node.info()).runtime == "process"
        await node.aclose()
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "token").stat().st_mode & 0o777 == 0o600
    assert len((state / "token").read_text().strip()) >= 43


@pytest.mark.anyio
async def test_a_second_start_keeps_token_and_certificate(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        wanted = settings(tmp_path, tls="on")
        async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()) as up:
            seen.append((up.tokens.read_text(), up.fingerprint))
            assert up.endpoint.startswith("https://")
    assert seen[0] == seen[1]
    assert (tmp_path / "state" / "tls.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_whoever_waits_is_answered_when_the_node_stops(tmp_path: Path) -> None:
    stop, lines = asyncio.Event(), []
    heard = asyncio.Event()

    def say(line: str) -> None:
        lines.append(line)
        heard.set()

    wanted = settings(tmp_path)
    task = asyncio.create_task(run(wanted, clock=SystemClock(), environ=os.environ, stop=stop, say=say))
    await heard.wait()
    endpoint = lines[0].split()[3].rstrip(",")
    node = NodeClient(endpoint, token=wanted.tokens.read_text().strip())
    first = await node.state("test")
    waiting = asyncio.create_task(node.state("test", since=first.revision, wait=50))
    await node.info()
    stop.set()
    async with asyncio.timeout(30):
        assert (await waiting).revision == first.revision or waiting.done()
        await task
    with pytest.raises(Unreachable):
        await node.info()
    await node.aclose()
    assert lines[-1] == "stopping; servers go on running"


@pytest.mark.parametrize(
    ("host", "tls", "warned"),
    [("0.0.0.0", "off", True), ("0.0.0.0", "auto", False), ("127.0.0.1", "off", False)],
)
@pytest.mark.anyio
async def test_a_token_that_others_can_read_on_its_way_is_warned_of(
    tmp_path: Path, host: str, tls: str, warned: bool
) -> None:
    stop, lines = asyncio.Event(), list[str]()
    stop.set()
    wanted = settings(tmp_path, host=host, tls=tls)
    await run(wanted, clock=SystemClock(), environ=os.environ, stop=stop, say=lines.append)
    assert any("without TLS whoever is on the way reads the token" in each for each in lines) == warned


@pytest.mark.anyio
async def test_a_runtime_that_was_asked_for_and_is_not_there_is_no_reason_to_take_another(
    tmp_path: Path,
) -> None:
    wanted = settings(tmp_path, runtime="docker", docker_socket=tmp_path / "no.sock")
    with pytest.raises((Unreachable, Refused)):
        async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()):
            pass


@pytest.mark.anyio
async def test_auto_takes_processes_where_docker_is_not_and_says_so(tmp_path: Path) -> None:
    wanted = settings(tmp_path, runtime="auto", docker_socket=tmp_path / "no.sock")
    async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        assert up.runtime == "process"
        assert up.because.startswith("Docker cannot be used: ")


@pytest.mark.anyio
async def test_a_node_whose_servers_run_in_docker_never_starts_them_again_as_processes(
    tmp_path: Path,
) -> None:
    wanted = settings(tmp_path, runtime="auto", docker_socket=tmp_path / "no.sock")
    wanted.state_dir.mkdir()
    (wanted.state_dir / RECORD).write_text("docker\n")
    with pytest.raises(Unreachable, match=r"no\.sock.*start it; or say --runtime process"):
        async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()):
            pass
    asked = wanted.model_copy(update={"runtime": "process"})
    async with serving(asked, clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        assert up.runtime == "process"
    async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        assert up.runtime == "process"


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with serving(settings(tmp_path), clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        port = int(up.endpoint.rpartition(":")[2])
        with pytest.raises(Invalid, match=str(port)):
            async with serving(
                settings(tmp_path / "b", port=port), clock=SystemClock(), environ=os.environ, log=Silent()
            ):
                pass


@pytest.mark.anyio
async def test_two_nodes_never_share_a_state_directory(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()):
        with pytest.raises(Invalid, match=rf"another node \(process {os.getpid()}\) works with"):
            async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()):
                pass
    async with serving(wanted, clock=SystemClock(), environ=os.environ, log=Silent()) as up:
        assert up.runtime == "process"


def test_an_ordinary_bridge_container_is_recognised(tmp_path: Path) -> None:
    interfaces = tmp_path / "sys" / "class" / "net"
    (interfaces / "eth0").mkdir(parents=True)
    assert not in_bridge_container(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert in_bridge_container(tmp_path)
    (interfaces / "docker0" / "bridge").mkdir(parents=True)
    assert not in_bridge_container(tmp_path)


# Settings


def test_flags_come_before_variables_before_defaults(tmp_path: Path) -> None:
    environ = {
        "TOOLKEEPER_NODE_PORT": "1234",
        "TOOLKEEPER_NODE_HOST": "10.0.0.1",
        "TOOLKEEPER_NODE_TLS_NAMES": "a,b",
    }
    read = settings_from(environ, port=99, runtime=None)
    assert (read.port, read.host, read.runtime, read.tls_names) == (99, "10.0.0.1", "auto", ("a", "b"))


def test_a_relative_path_is_meant_from_where_the_node_is_started() -> None:
    read = settings_from({}, state_dir="state", cache_dir="packages")

    assert (read.state_dir, read.cache_dir) == (Path.cwd() / "state", Path.cwd() / "packages")


@pytest.mark.parametrize(
    "environ",
    [{"TOOLKEEPER_NODE_PROT": "1"}, {"TOOLKEEPER_NODE_PORT": "x"}, {"TOOLKEEPER_NODE_RUNTIME": "vm"}],
)
def test_a_setting_that_does_not_exist_or_fit_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        settings_from(environ)
    assert next(iter(environ)).removeprefix("TOOLKEEPER_NODE_").lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("host", "tls", "encrypted"),
    [
        ("127.0.0.1", "auto", False),
        ("localhost", "auto", False),
        ("::1", "auto", False),
        ("0.0.0.0", "auto", True),
        ("10.0.0.1", "auto", True),
        ("a-name", "auto", True),
        ("10.0.0.1", "off", False),
        ("127.0.0.1", "on", True),
    ],
)
def test_tls_is_on_except_on_loopback(host: str, tls: str, encrypted: bool) -> None:
    assert NodeSettings.model_validate({"host": host, "tls": tls}).encrypted is encrypted


# Tokens


def test_a_token_file_that_others_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert token_file(path, LONG)
    assert not token_file(path, OTHER)
    assert path.read_text() == f"{LONG}\n"
    path.chmod(0o644)
    with pytest.raises(Invalid, match="chmod 600"):
        token_file(path, OTHER)


def test_tokens_are_rotated_by_editing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"# rotated in 2026\n{LONG}\n{OTHER}\n")
    gate = Gate(TokenFile(path), Watch())
    assert gate.admits(f"Bearer {LONG}")
    assert gate.admits(f"Bearer {OTHER}")
    path.with_name("new").write_text(f"{OTHER}\n")
    path.with_name("new").replace(path)
    assert not gate.admits(f"Bearer {LONG}")
    assert gate.admits(f"Bearer {OTHER}")


def test_a_token_file_that_vanishes_locks_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{LONG}\n")
    gate = Gate(TokenFile(path), Watch())
    path.unlink()
    assert gate.admits(f"Bearer {LONG}")
    path.write_text("\n")
    assert gate.admits(f"Bearer {LONG}")
    assert not gate.admits("Bearer ")


@pytest.mark.parametrize("content", ["", "\n", "# only a comment\n", "short\n"])
def test_a_node_does_not_start_without_a_token_that_nobody_guesses(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(Invalid):
        TokenFile(tmp_path / "token")


def test_a_guesser_waits_and_may_guess_again_later() -> None:
    watch = Watch()
    gate = Gate(Tokens(LONG), watch)
    assert [gate.wait_after_guess("a") for _ in range(GUESSES)] == [0] * GUESSES
    assert gate.wait_after_guess("a") > 0
    assert gate.wait_after_guess("b") == 0
    watch.seconds += SECONDS_PER_GUESS
    assert gate.wait_after_guess("a") == 0
    assert gate.wait_after_guess("a") > 0


def test_a_certificate_of_ones_own_is_never_left_unused(tmp_path: Path) -> None:
    clock = SystemClock()
    prepare(settings(tmp_path))
    made = certificate_of(settings(tmp_path, tls="on"), clock)
    assert made is not None
    own = {"tls_certificate": made[0], "tls_key": made[1]}
    assert certificate_of(settings(tmp_path, **own), clock) == made
    with pytest.raises(Invalid, match="no effect"):
        certificate_of(settings(tmp_path, tls="off", **own), clock)
    with pytest.raises(Invalid, match="cannot be used"):
        certificate_of(settings(tmp_path, tls_certificate=made[1], tls_key=made[0]), clock)
    with pytest.raises(Invalid, match="cannot be used"):
        certificate_of(settings(tmp_path, tls_certificate=tmp_path / "absent", tls_key=made[1]), clock)
