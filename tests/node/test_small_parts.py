"""The node's small pure parts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from toolkeeper.dtma.wire import SNAPSHOT
from toolkeeper.errors import Invalid, Refused
from toolkeeper.node.encoding import around_age, around_containers, joined
from toolkeeper.node.enrolment import enrol
from toolkeeper.node.entry import presses
from toolkeeper.node.masking import Mask
from toolkeeper.node.process.executables import find_npm, find_pypi
from toolkeeper.node.process.launch import Filling, size, unnamed
from toolkeeper.node.requirements import requirements
from toolkeeper.node.revisions import Revisions
from toolkeeper.node.slots import Slots
from toolkeeper.planning.instance import EnvEntry, FileEntry, PackageSource, VolumeMount
from toolkeeper.planning.observed import Container, DockerState, Handshake, Snapshot
from toolkeeper.testing.nodes import tiny_instance

# Masking


def test_a_value_is_masked_whole_even_when_it_contains_another() -> None:
    mask = Mask(["hunter22", "hunter22-and-more"])
    assert mask("log in with hunter22-and-more or hunter22") == "log in with •••• or ••••"


def test_every_line_of_a_long_value_is_masked() -> None:
    mask = Mask(["-----BEGIN KEY-----\nabcdefgh\n"])
    assert mask("key: abcdefgh") == "key: ••••"


def test_a_value_of_three_characters_is_left_alone() -> None:
    assert Mask(["abc"])("abc") == "abc"


# Encoding


def test_the_pieces_make_the_same_json_as_the_whole() -> None:
    tricky = Container(
        name='"age":0.0',
        installation="test",
        namespace="default",
        server="time",
        hash="h",
        renderer=1,
        state="running",
        error='"containers":[] "age":0.0',
    )
    snapshot = Snapshot(revision="a:1", runtime="docker", runtime_message='"containers":[]')
    encoded = joined(around_containers(snapshot), [(around_age(tricky), 1.5), (around_age(tricky), 2.0)])
    expected = replace(snapshot, containers=(replace(tricky, age=1.5), replace(tricky, age=2.0)))
    assert SNAPSHOT.validate_json(encoded) == expected


# Revisions


@pytest.mark.anyio
async def test_a_change_for_everybody_wakes_also_those_who_never_had_one() -> None:
    revisions = Revisions("boot", linger=0)
    before = revisions.current("test")
    waiting = asyncio.create_task(revisions.wait("test", before, 30))
    await asyncio.sleep(0)
    revisions.bump_all()
    async with asyncio.timeout(20):
        await waiting
    assert revisions.current("test") != before


@pytest.mark.anyio
async def test_a_change_of_one_installation_leaves_the_others_in_peace() -> None:
    revisions = Revisions("boot")
    revisions.bump("one")
    assert revisions.current("other") == "boot:0"


@pytest.mark.anyio
async def test_progress_alone_is_told_after_a_moment() -> None:
    revisions = Revisions("boot", linger=0, patience=0.01)
    waiting = asyncio.create_task(revisions.wait("test", "boot:0", 30))
    await asyncio.sleep(0)
    revisions.bump("test", pressing=False)
    await asyncio.sleep(0)
    assert not waiting.done()
    async with asyncio.timeout(20):
        await waiting
    assert revisions.current("test") == "boot:1"


@pytest.mark.anyio
async def test_news_that_presses_is_told_at_once_and_takes_progress_along() -> None:
    revisions = Revisions("boot", linger=0, patience=60)
    waiting = asyncio.create_task(revisions.wait("test", "boot:0", 30))
    await asyncio.sleep(0)
    revisions.bump("test", pressing=False)
    revisions.bump("test")
    async with asyncio.timeout(20):
        await waiting
    assert revisions.current("test") == "boot:2"


@pytest.mark.anyio
async def test_whoever_lacks_only_progress_waits_for_news() -> None:
    revisions = Revisions("boot", linger=0, patience=60)
    revisions.bump("test")
    revisions.bump("test", pressing=False)
    lacks_progress = asyncio.create_task(revisions.wait("test", "boot:1", 30))
    async with asyncio.timeout(20):
        await revisions.wait("test", "boot:0", 30)  # lacks news
        assert not lacks_progress.done()
        revisions.bump("test")
        await lacks_progress


@pytest.mark.anyio
async def test_nobody_waits_for_an_agent_that_stops() -> None:
    revisions = Revisions("boot")
    waiting = asyncio.create_task(revisions.wait("test", "boot:0", 30))
    await asyncio.sleep(0)
    revisions.close()
    async with asyncio.timeout(20):
        await waiting


# What presses


def some(state: DockerState, *, ok: bool | None = None, error_reason: str = "") -> Container:
    return Container(
        name="tk_test_default_time_01234567",
        installation="test",
        namespace="default",
        server="time",
        hash="h",
        renderer=1,
        state=state,
        error_reason=error_reason,
        handshake=None if ok is None else Handshake(ok=ok, reason="Reachable" if ok else "ConnectionRefused"),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, some("pending")),
        (some("pending"), some("building")),
        (some("created"), some("running")),
        (some("running"), some("running", ok=False)),
        (some("running", ok=True), some("removing", ok=True)),
    ],
)
def test_a_container_on_its_way_presses_nobody(before: Container | None, after: Container) -> None:
    assert not presses(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (some("running"), some("running", ok=True)),
        (some("running", ok=True), some("running", ok=False)),
        (some("running", ok=True), some("running")),
        (some("running"), some("exited")),
        (some("removing"), None),
        (some("created"), some("created", error_reason="StartFailed")),
        (some("building"), some("failed", error_reason="BuildFailed")),
    ],
)
def test_what_answers_stops_answering_ends_or_fails_presses(
    before: Container | None, after: Container | None
) -> None:
    assert presses(before, after)


def test_an_answer_can_wait_while_others_are_on_their_way() -> None:
    assert not presses(some("running"), some("running", ok=True), more_to_come=True)
    assert presses(some("running", ok=True), some("exited"), more_to_come=True)


# Slots


@pytest.mark.anyio
async def test_whoever_gives_up_waiting_takes_no_slot_along() -> None:
    slots = Slots(1)
    await slots.take()
    gives_up = asyncio.create_task(slots.take())
    patient = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give()
    gives_up.cancel()
    await asyncio.gather(gives_up, return_exceptions=True)
    async with asyncio.timeout(20):
        await patient


@pytest.mark.anyio
async def test_whoever_comes_back_from_a_pull_is_made_up_for() -> None:
    slots = Slots(1)
    await slots.take()
    slots.take_now()
    newcomer = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give()
    await asyncio.sleep(0)
    assert not newcomer.done()
    slots.give()
    async with asyncio.timeout(20):
        await newcomer


# Requirements


@pytest.mark.parametrize(
    ("package", "wanted"),
    [
        (PackageSource("pypi", "mcp-server-time", "1.2", ("mcp<2",)), ("mcp-server-time==1.2", "mcp<2")),
        (PackageSource("pypi", "mcp[cli]", "2.0"), ("mcp[cli]==2.0",)),
        (PackageSource("npm", "@org/server", "1.2.3", ("zod@^3",)), ("@org/server@1.2.3", "zod@^3")),
    ],
)
def test_a_package_is_asked_for_at_its_exact_version(package: PackageSource, wanted: tuple[str, ...]) -> None:
    assert requirements(package) == wanted


@pytest.mark.parametrize("registry", ["pypi", "npm"])
@pytest.mark.parametrize(
    "text",
    ["-r", "--index-url=x", "../x", "x@file:../y", "x @ https://e", "git+https://e", "x;y", "a b", "", "x\n"],
)
def test_nothing_that_a_tool_could_misread_is_asked_for(registry: str, text: str) -> None:
    good = PackageSource("pypi" if registry == "pypi" else "npm", "good", "1.0.0")
    with pytest.raises(Invalid):
        requirements(replace(good, name=text))
    with pytest.raises(Invalid):
        requirements(replace(good, version=text))
    with pytest.raises(Invalid):
        requirements(replace(good, companions=(text,)))


# Launching


def test_paths_of_mounts_become_the_places_they_really_are() -> None:
    fill = Filling(4711, {"/data": Path("/real/data"), "/data/deep": Path("/real/deep")})
    assert fill("--db=/data/notes.db") == "--db=/real/data/notes.db"
    assert fill("/data") == "/real/data"
    assert fill("/data/deep/x:/data") == "/real/deep/x:/real/data"
    assert fill("/database /mydata/data x/data") == "/database /mydata/data x/data"
    assert fill("{{host}}:{{port}}") == "127.0.0.1:4711"


def test_a_path_that_the_server_is_not_told_is_named() -> None:
    told = replace(
        tiny_instance(),
        args=("--notes=/data/notes.db",),
        env=(EnvEntry("WORDS", value="/etc/words.txt"), EnvEntry("NEAR", value="/etc/more.txt.old")),
        files=(FileEntry("/etc/words.txt", value=""), FileEntry("/etc/more.txt", value="")),
        volumes=(VolumeMount("tk_notes", "/data"), VolumeMount("tk_cache", "/cache/")),
    )
    assert unnamed(told) == ("/cache/", "/etc/more.txt")


@pytest.mark.parametrize(
    ("text", "number"), [("10m", 10 << 20), ("512k", 512 << 10), ("7", 7), ("lots", 10 << 20)]
)
def test_sizes_are_read_as_docker_reads_them(text: str, number: int) -> None:
    assert size(text) == number


# Executables


def test_the_program_of_the_packages_own_name_is_chosen(tmp_path: Path) -> None:
    _npm(tmp_path, "@org/my-server", '{"other": "o.js", "my-server": "s.js"}')
    assert find_npm(tmp_path, "@org/my-server").required().name == "my-server"


def test_a_lone_program_is_chosen_whatever_its_name(tmp_path: Path) -> None:
    _npm(tmp_path, "@org/my-server", '{"mcp-mine": "s.js"}')
    assert find_npm(tmp_path, "@org/my-server").required().name == "mcp-mine"
    _npm(tmp_path, "plain", '"s.js"')
    assert find_npm(tmp_path, "plain").required().name == "plain"


@pytest.mark.parametrize(("bin_", "says"), [('{"a": "a.js", "b": "b.js"}', "a, b"), ("{}", "no program")])
def test_a_choice_that_is_not_ours_is_left_to_the_spec(tmp_path: Path, bin_: str, says: str) -> None:
    _npm(tmp_path, "many", bin_)
    with pytest.raises(Refused, match=says):
        find_npm(tmp_path, "many").required()


def test_a_console_script_is_found_under_any_spelling_of_the_name(tmp_path: Path) -> None:
    info = tmp_path / "lib" / "python3.11" / "site-packages" / "My_Server-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: My_Server\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nmy.server = m:main\nhelper = m:help\n")
    assert find_pypi(tmp_path, "my-server[extra]").required() == tmp_path / "bin" / "my.server"


def _npm(root: Path, package: str, bin_: str) -> None:
    folder = root / "node_modules" / package
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(f'{{"name": "{package}", "bin": {bin_}}}')


# Enrolment


def test_enrolment_prints_no_token_but_the_way_to_it() -> None:
    enrolment = enrol(
        name="lab",
        namespace="default",
        endpoint="https://lab:30000",
        fingerprint=f"sha256:{'a' * 64}",
        token_file="/var/lib/toolkeeper/node/token",
        host="lab",
    )
    assert enrolment.manifest == (
        "apiVersion: toolkeeper.dev/v1alpha1\n"
        "kind: Toolbox\n"
        "metadata:\n"
        "  name: lab\n"
        "  namespace: default\n"
        "spec:\n"
        "  endpoint: https://lab:30000\n"
        "  agent: toolkeeper\n"
        "  tokenRef:\n"
        "    name: lab-token\n"
        "    key: token\n"
        "  tls:\n"
        "    fingerprints:\n"
        f"    - sha256:{'a' * 64}\n"
    )
    assert enrolment.command == (
        "ssh lab sudo head -n1 /var/lib/toolkeeper/node/token | tr -d '\\n' | "
        "kubectl --namespace default create secret generic lab-token --from-file=token=/dev/stdin "
        "--dry-run=client --output=yaml | "
        "kubectl label --local --filename=- toolkeeper.dev/credential=toolbox --output=yaml | "
        "kubectl --namespace default apply --server-side --filename=-"
    )
