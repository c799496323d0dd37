"""Packages: what goes into their images, and what never stays there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_docker.conftest import Place, a_runtime, ask
from toolkeeper.errors import Fenced, Invalid, Refused
from toolkeeper.node.docker import package_recipe as recipe
from toolkeeper.planning.instance import Instance, PackageSource
from toolkeeper.planning.observed import DockerState
from toolkeeper.reconcile.ports import InstanceRequest

TIME = PackageSource("pypi", "mcp-server-time", "2026.10.19")
EVERYTHING = PackageSource("npm", "@modelcontextprotocol/server-everything", "2026.8.31")
MARK = "leaky-mark"
"""In every setting of a build; nowhere in an image."""


def built(test: Any) -> Any:
    """A test that builds: it needs the engine and the registries, and takes its time."""
    for mark in (pytest.mark.docker, pytest.mark.network, pytest.mark.slow, pytest.mark.anyio):
        test = mark(test)
    return test


def settings_of(environment: dict[str, str]) -> tuple[dict[str, str], dict[str, Path]]:
    return recipe.settings(environment, lambda path: not path.name.startswith("missing"))


def test_the_tag_tells_everything_that_goes_in() -> None:
    changed = (
        TIME,
        replace(TIME, version="1"),
        replace(TIME, registry="npm"),
        replace(TIME, companions=("mcp<2",)),
        replace(TIME, system=("git",)),
        replace(TIME, companions=("a",), system=("b",)),
    )
    tags = {recipe.tag(each, "sha256:base") for each in changed} | {recipe.tag(TIME, "sha256:other")}
    assert len(tags) == len(changed) + 1
    assert recipe.tag(replace(TIME, system=("a", "b")), "x") == recipe.tag(
        replace(TIME, system=("b", "a")), "x"
    )


def test_what_pip_or_npm_could_read_as_an_option_is_refused() -> None:
    assert recipe.arguments(TIME) == ["pypi", "mcp-server-time", "", "mcp-server-time==2026.10.19"]
    for wrong in (
        replace(TIME, name="--index-url"),
        replace(TIME, companions=("-r/etc/passwd",)),
        replace(TIME, companions=("git+https://x/y",)),
        replace(EVERYTHING, companions=("file:/etc",)),
    ):
        with pytest.raises(Invalid):
            recipe.arguments(wrong)


@pytest.mark.parametrize(
    ("name", "scripts", "chosen"),
    [
        ("mcp-server-time", ["mcp-server-time"], "mcp-server-time"),
        ("@scope/server", ["mcp-server"], "mcp-server"),
        ("Excel_MCP.Server", ["excel-mcp-server", "excel-tool"], "excel-mcp-server"),
        ("@notionhq/notion-mcp-server", ["other", "notion-mcp-server"], "notion-mcp-server"),
        ("thing", ["one", "two"], None),
        ("thing", [], None),
    ],
)
def test_the_server_is_the_program_with_the_packages_name_or_the_only_one(
    name: str, scripts: list[str], chosen: str | None
) -> None:
    package = PackageSource("pypi", name, "1")
    assert recipe.entrypoint(package, scripts) == chosen
    config = recipe.image_config(package, [], scripts)
    assert config.get("Entrypoint") == ([f"/opt/package/bin/{chosen}"] if chosen else None)


def test_an_image_has_the_environment_of_its_base_and_of_nobody_else() -> None:
    config = recipe.image_config(TIME, ["PATH=/usr/bin", "LANG=C"], ["mcp-server-time"])
    assert config["Env"] == ["PATH=/opt/package/bin:/usr/bin", "LANG=C", "PYTHONUNBUFFERED=1"]


def test_settings_of_the_node_reach_the_build() -> None:
    variables, beside = settings_of(
        {
            "PIP_INDEX_URL": "https://index/simple",
            "PIP_TARGET": "/mine",
            "PIP_FIND_LINKS": "/wheels https://links /missing-folder",
            "npm_config_registry": "https://npm",
            "NPM_CONFIG_STRICT_SSL": "false",
            "npm_config_prefix": "/mine",
            "HTTPS_PROXY": "http://proxy:3128",
            "PIP_CONFIG_FILE": "/etc/pip.conf",
            "NPM_CONFIG_USERCONFIG": "/missing-npmrc",
            "PIP_CERT": "/missing.pem",
            "SSL_CERT_FILE": "/etc/ca.pem",
            "AWS_SECRET_ACCESS_KEY": "never",
        }
    )
    assert variables["PIP_INDEX_URL"] == "https://index/simple"
    assert variables["PIP_FIND_LINKS"] == "/run/toolkeeper/links-0 https://links"
    assert variables["npm_config_registry"] == "https://npm"
    assert variables["npm_config_strict_ssl"] == "false"
    assert variables["https_proxy"] == variables["HTTPS_PROXY"] == "http://proxy:3128"
    assert variables["PIP_CERT"] == variables["NODE_EXTRA_CA_CERTS"] == "/run/toolkeeper/ca.pem"
    assert variables["PIP_CONFIG_FILE"] == "/run/toolkeeper/pip_config_file"
    assert beside == {
        "ca.pem": Path("/etc/ca.pem"),
        "pip_config_file": Path("/etc/pip.conf"),
        "links-0": Path("/wheels"),
    }
    for absent in ("PIP_TARGET", "npm_config_prefix", "NPM_CONFIG_USERCONFIG", "AWS_SECRET_ACCESS_KEY"):
        assert absent not in variables


def test_a_node_without_settings_builds_with_none() -> None:
    assert settings_of({"PATH": "/bin"}) == ({}, {})


@given(value=st.text("ab '\"$`\\;|&\n(){}", max_size=30))
def test_no_setting_is_read_as_a_command(value: str) -> None:
    written = recipe.script({"SETTING": value}).replace("mkdir -p /tmp/home", "")
    said = subprocess.run(
        ["sh", "-c", written + 'printf %s "$SETTING"'], capture_output=True, check=True, text=True
    )
    assert said.stdout == value


def test_credentials_of_a_setting_are_not_shown() -> None:
    variables = {"PIP_INDEX_URL": "https://user:hunter2@index/simple"}
    text = recipe.masked("Looking in indexes: https://user:hunter2@index/simple", variables)
    assert "hunter2" not in text
    assert "index/simple" in text


def test_settings_that_lead_to_this_machine_are_noticed() -> None:
    variables = {"A": "http://127.0.0.1:3128", "B": "https://one/x https://two", "C": "no url"}
    assert recipe.hosts(variables) == {"127.0.0.1", "one", "two"}


def test_the_script_is_plain_shell() -> None:
    script = Path(recipe.__file__).with_name("build_package.sh")
    subprocess.run(["sh", "-n", str(script)], check=True)


def environment(tmp_path: Path) -> dict[str, str]:
    """This machine's settings, with a mark in all that can carry one."""
    found = dict(os.environ)
    given = (found[name] for name in recipe.CA_SOURCES if found.get(name))
    marked = tmp_path / "ca.pem"
    shutil.copy(next(given, "/etc/ssl/certs/ca-certificates.crt"), marked)
    with marked.open("a") as file:
        file.write(f"\n# {MARK}\n")
    npmrc = tmp_path / "npmrc"
    npmrc.write_text(f"//{MARK}.example/:_authToken={MARK}\n")
    return {
        **found,
        **dict.fromkeys(recipe.CA_SOURCES, str(marked)),
        "PIP_TRUSTED_HOST": f"{MARK}.example",
        "NO_PROXY": f"{MARK}.example",
        "npm_config_noproxy": f"{MARK}.example",
        "NPM_CONFIG_USERCONFIG": str(npmrc),
    }


@pytest.fixture
async def builder(
    docker_engine: docker.DockerClient, place: Place, base_node: str, tmp_path: Path
) -> AsyncIterator[Place]:
    """A runtime with settings to leak, and a base image of its own: nothing is built on it yet."""
    repository = f"toolkeeper-test/base-{place.installation}"
    container = docker_engine.api.create_container(base_node, command="x")["Id"]
    docker_engine.api.commit(container, repository=repository, tag="1", conf={"Labels": {"mine": repository}})
    docker_engine.api.remove_container(container)
    bases = (f"{repository}:1",)
    settings = replace(
        place.settings, python_bases=bases, node_bases=bases, environment=environment(tmp_path)
    )
    runtime = a_runtime(settings)
    await runtime.open()
    yield replace(place, runtime=runtime, settings=settings, steps=[])
    await runtime.aclose()
    for container in docker_engine.containers.list(
        all=True, ignore_removed=True, filters={"label": f"mine={repository}"}
    ):
        container.remove(force=True)
    for image in docker_engine.images.list(filters={"label": f"mine={repository}"}):
        docker_engine.images.remove(str(image.id), force=True)


def everything_in(engine: docker.DockerClient, name: str) -> bytes:
    """The file system, the config and the history of the image of that container."""
    image = engine.containers.get(name).image
    assert image is not None
    container = engine.api.create_container(image.id, command="x")["Id"]
    try:
        content = b"".join(engine.api.export(container))
    finally:
        engine.api.remove_container(container)
    return content + repr((image.attrs, image.history())).encode()


def containers_of(builder: Place) -> list[Any]:
    """What was made of the base image of this test, builds included."""
    mine = f"mine=toolkeeper-test/base-{builder.installation}"
    return builder.engine.containers.list(all=True, ignore_removed=True, filters={"label": mine})


def of_package(package: PackageSource, server: str = "built", *args: str) -> InstanceRequest:
    return ask(server, image="", package=package, transport="stdio", port=0, path="", args=args)


@pytest.mark.parametrize(
    ("package", "args"),
    [(replace(TIME, system=("tree",)), "--local-timezone=UTC"), (EVERYTHING, "stdio")],
    ids=["pypi", "npm"],
)
@built
async def test_a_package_runs_and_nothing_of_the_nodes_settings_is_in_its_image(
    builder: Place, package: PackageSource, args: str
) -> None:
    name = await builder.up(of_package(package, "built", args))
    texts = [text for state, text in builder.steps if state == "building"]
    assert f"installing {package.name}" in texts
    seen = await builder.runtime.look_at(name)
    assert seen is not None
    assert seen.container.state == "running"
    assert seen.container.image == f"{package.registry}:{package.name}=={package.version}"
    if package.system:
        assert builder.inside(name, "tree", "--version")[0] == 0
    content = everything_in(builder.engine, name)
    assert MARK.encode() not in content
    # Debian's own sources are in the base, and none of the node's settings.
    variables, _ = recipe.settings(environment(Path(builder.settings.state.parent)), Path.exists)
    assert not [host for host in recipe.hosts(variables) if host.encode() in content]


@built
async def test_many_ask_for_a_package_and_it_is_built_once(builder: Place) -> None:
    tiny = PackageSource("pypi", "iniconfig", "2.1.0")
    requests = [replace(of_package(tiny, f"s{n}"), instance=commanded(tiny)) for n in range(4)]
    async with anyio.create_task_group() as group:
        for request in requests:
            group.start_soon(builder.up, request)
    assert builder.steps.count(("building", "preparing")) == 1
    assert len(containers_of(builder)) == len(requests)


def commanded(package: PackageSource) -> Instance:
    return replace(of_package(package).instance, command=("sleep", "60"))


@built
async def test_a_package_without_a_program_is_told_to_name_one(builder: Place) -> None:
    with pytest.raises(Refused, match=r"spec\.command") as refused:
        await builder.up(of_package(PackageSource("pypi", "iniconfig", "2.1.0")))
    assert refused.value.reason == "CreateFailed"


@built
async def test_a_build_that_fails_says_what_was_said_last_and_leaves_nothing(builder: Place) -> None:
    with pytest.raises(Refused) as refused:
        await builder.up(of_package(PackageSource("pypi", "iniconfig", "0.0.0.dev999")))
    assert refused.value.reason == "BuildFailed"
    assert "iniconfig==0.0.0.dev999" in str(refused.value)
    assert containers_of(builder) == []
    assert not list((builder.settings.run / ".builds").iterdir())


@built
async def test_a_build_for_a_stale_leader_is_given_up(builder: Place) -> None:
    def fenced(state: DockerState, text: str) -> None:
        if text.startswith("installing"):
            raise Fenced("a newer leader exists")

    request = of_package(TIME)
    with pytest.raises(Fenced):
        await builder.runtime.create(builder.called(request), builder.installation, request, fenced)
    assert containers_of(builder) == []
