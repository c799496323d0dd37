"""What a container may do: the table, and the same table asked of a running one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from node_docker.conftest import Place, ask
from toolkeeper.errors import Refused
from toolkeeper.node.docker import hardening
from toolkeeper.node.docker.hardening import create_body
from toolkeeper.planning.instance import (
    EnvEntry,
    FileEntry,
    Hardening,
    Limits,
    PackageSource,
    Reach,
    SecretUse,
    VolumeMount,
)
from toolkeeper.planning.profiles import PROFILES
from toolkeeper.resources.mcpserver import Profile

HERE = hardening.Place(image="i", network="tk_x_internal", address="10.201.0.5")

RESTRICTED: dict[str, Any] = {
    "CapDrop": ["ALL"],
    "CapAdd": [],
    "SecurityOpt": ["no-new-privileges:true"],
    "ReadonlyRootfs": True,
    "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},
    "Memory": 512 * 1024**2,
    "MemorySwap": 512 * 1024**2,
    "NanoCpus": 1_000_000_000,
    "PidsLimit": 256,
    "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}],
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    "Init": True,
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "Privileged": False,
    "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
    "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1"},
}
MANY_THREADS = """
import threading
wait = threading.Event()
try:
    for _ in range(40):
        threading.Thread(target=wait.wait, daemon=True).start()
except RuntimeError as error:
    print(error)
"""
NEVER: dict[str, Any] = {
    "PidMode": "",
    "UTSMode": "",
    "UsernsMode": "",
    "Binds": None,
    "Devices": None,
    "DeviceRequests": None,
    "GroupAdd": None,
    "PortBindings": None,
    "PublishAllPorts": False,
    "VolumesFrom": None,
    "CgroupParent": "",
    "Links": None,
}
"""What the Engine reports where nothing was asked for."""


@pytest.mark.docker
@pytest.mark.anyio
async def test_a_running_container_is_walled_in_as_the_table_says(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    found = place.engine.api.inspect_container(name)
    host = found["HostConfig"]
    assert {key: host[key] or value for key, value in RESTRICTED.items() if key != "CapAdd"} == {
        key: value for key, value in RESTRICTED.items() if key != "CapAdd"
    }
    assert not host["CapAdd"]
    assert {key: host[key] or None for key in NEVER} == {key: value or None for key, value in NEVER.items()}
    assert found["Config"]["User"] == "65532:65532"
    assert found["Mounts"] == []
    assert list(found["NetworkSettings"]["Networks"]) == [f"tk_{place.installation}_internal"]
    assert not any(found["NetworkSettings"]["Ports"].values())


@pytest.mark.docker
@pytest.mark.anyio
@pytest.mark.parametrize("profile", PROFILES)
async def test_every_profile_reaches_the_container_as_it_stands(
    place: Place, tiny_image: str, profile: Profile
) -> None:
    walls = PROFILES[profile]
    name = await place.up(ask(image=tiny_image, hardening=walls))
    seen = await place.runtime.look_at(name)
    assert seen is not None
    live = seen.container.live
    assert live is not None
    assert (live.cap_drop, live.cap_add, live.user) == (walls.cap_drop, walls.cap_add, walls.user)
    assert live.read_only_root == walls.read_only_root
    host = place.engine.api.inspect_container(name)["HostConfig"]
    assert (host["SecurityOpt"] == ["no-new-privileges:true"]) == walls.no_new_privileges


@pytest.mark.docker
@pytest.mark.anyio
async def test_the_kernel_says_so_too(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, limits=Limits(memory=64 * 1024**2, pids=20)))
    status = place.python(name, "print(open('/proc/self/status').read())")
    rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert rows["CapEff"] == rows["CapBnd"] == "0" * 16
    assert rows["NoNewPrivs"] == "1"
    assert rows["Seccomp"] == "2"
    assert rows["Uid"].split() == ["65532"] * 4
    assert "Read-only" in place.python(name, "open('/x', 'w')")
    assert place.python(name, "open('/tmp/x', 'w').write('1'); print('ok')") == "ok"
    assert "can't start new thread" in place.python(name, MANY_THREADS)
    assert place.python(name, "print(open('/proc/sys/net/ipv6/conf/all/disable_ipv6').read())") == "1"


def test_nothing_can_name_a_path_of_the_host() -> None:
    for volume in ("/var/run/docker.sock", "/", "../x", ".hidden", ""):
        with pytest.raises(Refused, match="no name of a volume"):
            create_body(ask(image="i", volumes=(VolumeMount(volume, "/data"),)), "x", HERE)


def test_a_capability_is_a_word_and_nothing_else() -> None:
    for capability in ("net_raw", "ALL,SYS_ADMIN", "", "SYS ADMIN"):
        with pytest.raises(Refused, match="no capability"):
            create_body(ask(image="i", hardening=Hardening(cap_add=(capability,))), "x", HERE)


def test_a_secret_that_was_not_sent_along_stops_the_start() -> None:
    missing = SecretUse("keys", "token", "d1")
    with pytest.raises(Refused, match="keys/token"):
        create_body(ask(image="i", env=(EnvEntry("TOKEN", secret=missing),)), "x", HERE)
    with pytest.raises(Refused, match="keys/token"):
        hardening.contents(ask(image="i", files=(FileEntry("/f", secret=missing),)).instance, {})


def test_the_port_is_filled_in_where_it_is_named() -> None:
    request = ask(
        image="i",
        port=9100,
        args=("--port", "{{port}}", "--host={{host}}"),
        env=(EnvEntry("BIND", "{{host}}:{{port}}"),),
    )
    body = create_body(request, "x", HERE)
    assert body["Cmd"] == ["--port", "9100", "--host=0.0.0.0"]
    assert body["Env"] == ["BIND=0.0.0.0:9100"]


def test_a_secret_is_never_filled_in() -> None:
    secret = EnvEntry("TOKEN", secret=SecretUse("keys", "token", "d1"))
    body = create_body(ask(image="i", env=(secret,), secret_values={"keys/token": "{{port}}"}), "x", HERE)
    assert body["Env"] == ["TOKEN={{port}}"]


def test_a_package_is_told_where_to_listen() -> None:
    package = PackageSource("npm", "server", "1.0.0")
    env = create_body(ask(image="", package=package, env=(EnvEntry("PORT", "1"),)), "x", HERE)["Env"]
    assert env == ["HOST=0.0.0.0", "PORT=1"]
    stdio = ask(image="", package=package, transport="stdio", port=0, env=())
    assert create_body(stdio, "x", HERE)["Env"] == []


def test_restart_policies_are_dockers_own() -> None:
    names = {
        policy: create_body(ask(image="i", restart=policy), "x", HERE)["HostConfig"]["RestartPolicy"]
        for policy in ("Always", "OnFailure", "Never")
    }
    assert names["Always"]["Name"] == "unless-stopped"
    assert names["OnFailure"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert names["Never"]["Name"] == "no"


def test_a_stdio_server_keeps_its_stdin_open_and_has_no_terminal() -> None:
    body = create_body(ask(image="i", transport="stdio", port=0), "x", HERE)
    assert (body["OpenStdin"], body["StdinOnce"], body["Tty"]) == (True, False, False)


def test_a_host_name_tells_the_server_is_no_longer_than_a_label_and_is_no_name_of_a_peer() -> None:
    assert create_body(ask("tiny", image="i"), "x", HERE)["Hostname"].startswith("tiny-")
    long = create_body(ask("a" * 63, image="i"), "x", HERE)["Hostname"]
    assert long.startswith("a" * 54 + "-")
    assert len(long) == 63


def test_names_outside_can_be_asked_for_only_with_a_way_out() -> None:
    closed = create_body(ask(image="i"), "x", HERE)["HostConfig"]
    opened = create_body(ask(image="i", reach=Reach(egress="allow")), "x", HERE)["HostConfig"]
    assert closed["Dns"] == ["127.0.0.1"]
    assert "Dns" not in opened


def test_a_kernel_without_ipv6_is_not_asked_to_switch_it_off() -> None:
    host = create_body(ask(image="i"), "x", replace(HERE, ipv6=False))["HostConfig"]
    assert host["Sysctls"] == {}


def test_volumes_start_empty_where_the_server_has_a_user_of_ours() -> None:
    volume = VolumeMount("tk_x_default_tiny_data", "/data")
    body = create_body(ask(image="i", volumes=(volume,)), "x", HERE)
    seeded = create_body(ask(image="i", volumes=(volume,)), "x", replace(HERE, seeds_volumes=True))
    assert body["HostConfig"]["Mounts"][0]["VolumeOptions"] == {"NoCopy": True}
    assert seeded["HostConfig"]["Mounts"][0]["VolumeOptions"] == {"NoCopy": False}
