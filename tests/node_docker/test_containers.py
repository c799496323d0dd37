"""Containers of ours: made, found again, ended, and never confused with anybody else's."""

from __future__ import annotations

from dataclasses import replace

import anyio
import docker
import pytest
from docker.errors import NotFound as Gone

from node_docker.conftest import Place, a_runtime, ask, silent
from toolkeeper.errors import Conflict, Fenced, NotFound, Refused
from toolkeeper.node.runtime import Seen
from toolkeeper.planning.drift import drifts, expected
from toolkeeper.planning.instance import EnvEntry, FileEntry, Hardening, Limits, SecretUse, VolumeMount
from toolkeeper.planning.observed import DockerState

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

SECRET = SecretUse("keys", "token", "d1")
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
EXITS = ("python3", "-c", "import sys; print('to stdout'); sys.exit('to stderr')")


async def seen(place: Place, name: str) -> Seen:
    found = await place.runtime.look_at(name)
    assert found is not None
    return found


async def until(place: Place, name: str, state: DockerState) -> Seen:
    for _ in range(200):
        found = await seen(place, name)
        if found.container.state == state:
            return found
        await anyio.sleep(0.05)
    raise AssertionError(f"{name} is still not {state}")


async def test_what_was_asked_for_runs_and_is_reported_without_drift(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image, host_header="localhost:8000", probe_interval=7)
    name = await place.up(request)
    found = await seen(place, name)
    container = found.container
    assert (container.state, container.restarts, container.exit_code) == ("running", 0, None)
    assert (container.server, container.hash, container.renderer) == ("tiny", request.hash, 1)
    assert container.address.startswith("http://10.213.")
    assert container.address.endswith(":8000/mcp")
    assert (found.host_header, found.probe_interval, found.port) == ("localhost:8000", 7, 8000)
    assert container.live is not None
    assert drifts(request.instance, container) == ()
    named = replace(container.live, env_names=expected(request.instance).env_names)
    assert named == expected(request.instance)


async def test_creating_twice_is_creating_once(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image)
    name = await place.up(request)
    before = await seen(place, name)
    await place.up(request)
    assert await seen(place, name) == before


async def test_two_creates_at_the_same_time_make_one(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image)
    other = a_runtime(place.settings)
    await other.open()
    name = place.called(request)
    async with anyio.create_task_group() as group:
        for runtime in (place.runtime, other):
            group.start_soon(runtime.create, name, place.installation, request, silent)
    assert len((await place.runtime.look()).containers.keys() & {name}) == 1
    await other.aclose()


async def test_a_create_that_was_cut_short_is_finished(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image)

    def fenced_before_the_start(state: DockerState, text: str) -> None:
        if text == "starting":
            raise Fenced("a newer leader exists")

    name = place.called(request)
    with pytest.raises(Fenced):
        await place.runtime.create(name, place.installation, request, fenced_before_the_start)
    assert (await seen(place, name)).container.state == "created"
    await place.up(request)
    assert (await seen(place, name)).container.state == "running"


async def test_nothing_is_made_for_a_stale_leader(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image)

    def fenced(state: DockerState, text: str) -> None:
        raise Fenced("a newer leader exists")

    with pytest.raises(Fenced):
        await place.runtime.create(place.called(request), place.installation, request, fenced)
    assert await place.runtime.look_at(place.called(request)) is None


async def test_a_restarted_agent_finds_everything_again(place: Place, tiny_image: str) -> None:
    values = {"keys/token": "hunter2"}
    name = await place.up(
        ask(
            image=tiny_image,
            env=(EnvEntry("HOME", "/tmp"), EnvEntry("TOKEN", secret=SECRET)),
            files=(FileEntry("/etc/token", secret=SECRET),),
            secret_values=values,
        )
    )
    before = await seen(place, name)
    await place.runtime.aclose()
    next_agent = a_runtime(place.settings)
    await next_agent.open()
    assert await next_agent.look_at(name) == before
    assert (await next_agent.look()).containers[name] == before
    assert before.secrets == {"hunter2"}
    await next_agent.remove(name, 0)
    await next_agent.aclose()


async def test_a_strangers_container_with_our_name_is_refused_and_untouched(
    place: Place, tiny_image: str
) -> None:
    request = ask(image=tiny_image)
    name = place.called(request)
    stranger = place.engine.containers.create(tiny_image, name=name)
    try:
        with pytest.raises(Refused) as refused:
            await place.up(request)
        assert refused.value.reason == "CreateFailed"
        with pytest.raises(Refused) as refused:
            await place.runtime.remove(name, 0)
        assert refused.value.reason == "NotOurs"
        for verb in (place.runtime.start, place.runtime.restart):
            with pytest.raises(NotFound):
                await verb(name)
        with pytest.raises(NotFound):
            await place.runtime.stop(name, 0)
        assert await place.runtime.look_at(name) is None
        stranger.reload()
        assert stranger.status == "created"
    finally:
        stranger.remove(force=True)


async def test_strangers_are_counted_and_never_named(place: Place, tiny_image: str) -> None:
    stranger = place.engine.containers.create(tiny_image)
    try:
        sight = await place.runtime.look()
        assert sight.unmarked >= 1
        assert stranger.name not in sight.containers
        assert stranger.id is not None
        assert await place.runtime.look_at(stranger.id[:12]) is None
    finally:
        stranger.remove(force=True)


async def test_an_id_is_no_name(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    id = (await seen(place, name)).container.container_id
    assert await place.runtime.look_at(id) is None
    with pytest.raises(NotFound):
        await place.runtime.stop(id, 0)


async def test_stopped_stays_stopped_and_starts_again(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    run = (await seen(place, name)).container.run_id
    await place.runtime.stop(name, 5)
    await place.runtime.stop(name, 5)
    assert (await seen(place, name)).container.state == "exited"
    await place.runtime.start(name)
    await place.runtime.start(name)
    again = (await seen(place, name)).container
    assert (again.state, again.run_id != run) == ("running", True)


async def test_a_restart_is_another_run_of_the_same_container(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    before = (await seen(place, name)).container
    await place.runtime.restart(name)
    after = (await seen(place, name)).container
    assert (after.state, after.container_id) == ("running", before.container_id)
    assert after.run_id != before.run_id


async def test_a_server_that_ends_when_asked_is_not_waited_for(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    with anyio.fail_after(10):
        await place.runtime.stop(name, 600)
    assert (await seen(place, name)).container.exit_code in (0, 143)


async def test_a_server_that_does_not_end_is_killed_after_its_drain(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, command=("python3", "-c", DEAF)))
    assert await place.first_line(name) == "deaf"
    with anyio.fail_after(20):
        await place.runtime.stop(name, 3)
    assert (await seen(place, name)).container.exit_code == 137


async def test_a_drain_that_is_given_up_kills_nothing(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, command=("python3", "-c", DEAF)))
    assert await place.first_line(name) == "deaf"
    with anyio.move_on_after(0.5):
        await place.runtime.stop(name, 60)
    assert (await seen(place, name)).container.state == "running"


async def test_removing_leaves_nothing_but_volumes(place: Place, tiny_image: str) -> None:
    volume = VolumeMount(f"tk_{place.installation}_default_tiny_data", "/data")
    name = await place.up(ask(image=tiny_image, volumes=(volume,), files=(FileEntry("/etc/x", "content"),)))
    folder = place.settings.run / place.installation / name
    assert folder.exists()
    await place.runtime.remove(name, 5)
    await place.runtime.remove(name, 5)
    sight = await place.runtime.look()
    assert name not in sight.containers
    assert not folder.exists()
    assert sight.volumes[place.installation] == (volume.volume,)


async def test_what_somebody_removed_leaves_no_files_either(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, files=(FileEntry("/etc/x", "content"),)))
    place.engine.containers.get(name).remove(force=True)
    await place.runtime.remove(name, 0)
    assert not (place.settings.run / place.installation / name).exists()


async def test_a_crash_is_told_with_exit_code_and_last_lines(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, command=EXITS, restart="Never"))
    container = (await until(place, name, "exited")).container
    assert container.exit_code == 1
    assert sorted(container.last_log) == ["to stderr", "to stdout"]


async def test_of_a_stdio_server_only_stderr_is_told(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image, transport="stdio", port=0, path="", command=EXITS, restart="Never")
    name = await place.up(request)
    assert (await until(place, name, "exited")).container.last_log == ("to stderr",)


async def test_a_crash_loop_is_seen_as_restarts(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, command=EXITS))
    container = (await until(place, name, "restarting")).container
    assert container.exit_code == 1
    assert "to stderr" in container.last_log
    await place.runtime.stop(name, 5)
    assert (await seen(place, name)).container.state == "exited"


async def test_running_out_of_memory_is_told(place: Place, tiny_image: str) -> None:
    hungry = ("python3", "-c", "x = bytearray(200 * 1024**2)")
    limits = Limits(memory=32 * 1024**2)
    name = await place.up(ask(image=tiny_image, command=hungry, limits=limits, restart="Never"))
    container = (await until(place, name, "exited")).container
    assert (container.exit_code, container.oom_killed) == (137, True)


async def test_a_program_that_is_not_there_is_told(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, command=("/no/such/program",), restart="Never"))
    container = (await until(place, name, "exited")).container
    assert container.exit_code == 127
    assert "/no/such/program" in container.last_log[-1]


async def test_what_the_daemon_cannot_start_is_told(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image, command=("/no/such/program",), hardening=Hardening(init=False))
    with pytest.raises(Refused) as refused:
        await place.up(request)
    assert refused.value.reason == "StartFailed"
    assert "/no/such/program" in str(refused.value)
    container = (await seen(place, place.called(request))).container
    assert (container.state, container.error_reason) == ("created", "StartFailed")
    assert "/no/such/program" in container.error


async def test_an_image_without_a_program_is_told(place: Place, empty_image: str) -> None:
    with pytest.raises(Refused, match=r"spec\.command"):
        await place.up(ask(image=empty_image))


async def test_what_somebody_edits_is_seen(place: Place, tiny_image: str) -> None:
    request = ask(image=tiny_image)
    name = await place.up(request)
    place.engine.api.update_container(name, mem_limit=64 * 1024**2, memswap_limit=64 * 1024**2)
    place.engine.containers.get(name).update(restart_policy={"Name": "always"})
    place.engine.networks.get("bridge").connect(name)
    found = drifts(request.instance, (await seen(place, name)).container)
    assert [each.field for each in found] == ["memory", "networks", "restartPolicy"]


async def test_paused_by_somebody_is_told(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    place.engine.containers.get(name).pause()
    assert (await seen(place, name)).container.state == "paused"
    await place.up(ask(image=tiny_image))
    assert (await seen(place, name)).container.state == "paused"
    await place.runtime.remove(name, 3)


async def test_a_fresh_volume_belongs_to_whoever_runs_the_server(place: Place, tiny_image: str) -> None:
    volume = VolumeMount(f"tk_{place.installation}_default_tiny_data", "/data/deep")
    name = await place.up(ask(image=tiny_image, volumes=(volume,)))
    assert place.python(name, "open('/data/deep/x', 'w').write('1'); print('ok')") == "ok"
    await place.runtime.remove(name, 0)
    request = ask(image=tiny_image, volumes=(volume,), version="2")
    assert place.python(await place.up(request), "print(open('/data/deep/x').read())") == "1"


async def test_an_image_without_a_shell_gets_its_volume_too(place: Place, bare_image: str) -> None:
    volume = VolumeMount(f"tk_{place.installation}_default_tiny_data", "/data")
    await place.up(ask(image=bare_image, volumes=(volume,), restart="Never"))
    mine = {"label": f"toolkeeper.dev/installation={place.installation}"}
    (made,) = place.engine.volumes.list(filters=mine)
    owner = await anyio.Path(made.attrs["Mountpoint"]).stat()
    assert (owner.st_uid, owner.st_gid) == (65532, 65532)
    assert (
        place.engine.containers.list(
            all=True, ignore_removed=True, filters={"label": "toolkeeper.dev/role=chown"}
        )
        == []
    )


async def test_a_read_only_volume_is_read_only(place: Place, tiny_image: str) -> None:
    volume = VolumeMount(f"tk_{place.installation}_default_tiny_data", "/data", read_only=True)
    name = await place.up(ask(image=tiny_image, volumes=(volume,)))
    assert "Read-only" in place.python(name, "open('/data/x', 'w')")


async def test_a_strangers_volume_is_neither_used_nor_removed(place: Place, tiny_image: str) -> None:
    name = f"tk_{place.installation}_default_tiny_data"
    place.engine.volumes.create(name)
    try:
        with pytest.raises(Refused, match="not ours"):
            await place.up(ask(image=tiny_image, volumes=(VolumeMount(name, "/data"),)))
        with pytest.raises(Refused) as refused:
            await place.runtime.remove_volume(place.installation, name)
        assert refused.value.reason == "NotOurs"
    finally:
        place.engine.volumes.get(name).remove()


async def test_a_volume_goes_only_when_nobody_uses_it(place: Place, tiny_image: str) -> None:
    volume = f"tk_{place.installation}_default_tiny_data"
    name = await place.up(ask(image=tiny_image, volumes=(VolumeMount(volume, "/data"),)))
    with pytest.raises(Conflict):
        await place.runtime.remove_volume(place.installation, volume)
    await place.runtime.remove(name, 0)
    await place.runtime.remove_volume(place.installation, volume)
    await place.runtime.remove_volume(place.installation, volume)
    assert place.installation not in (await place.runtime.look()).volumes


async def test_a_file_is_read_by_the_server_and_by_nobody_else(place: Place, tiny_image: str) -> None:
    request = ask(
        image=tiny_image,
        files=(FileEntry("/etc/config.json", "{}"), FileEntry("/run/token", secret=SECRET)),
        secret_values={"keys/token": "hunter2"},
    )
    name = await place.up(request)
    assert (
        place.python(name, "print(open('/etc/config.json').read(), open('/run/token').read())")
        == "{} hunter2"
    )
    assert "Read-only" in place.python(name, "import os; os.remove('/run/token')") or "busy" in place.python(
        name, "import os; os.remove('/run/token')"
    )
    folder = place.settings.run / place.installation / name
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o400}
    assert {path.stat().st_uid for path in folder.iterdir()} == {65532}


async def test_files_that_are_gone_are_told_and_nothing_starts_without_them(
    place: Place, tiny_image: str
) -> None:
    name = await place.up(ask(image=tiny_image, files=(FileEntry("/etc/x", "content"),)))
    await place.runtime.stop(name, 0)
    for path in (place.settings.run / place.installation / name).iterdir():
        path.unlink()  # as a reboot does
    assert (await seen(place, name)).container.error_reason == "FilesUnavailable"
    with pytest.raises(Refused) as refused:
        await place.runtime.start(name)
    assert refused.value.reason == "FilesUnavailable"


async def test_a_user_with_a_name_reads_its_files(place: Place, tiny_image: str) -> None:
    files, walls = (FileEntry("/etc/x", "content"),), Hardening(user="nobody")
    name = await place.up(ask(image=tiny_image, files=files, hardening=walls))
    assert place.python(name, "print(open('/etc/x').read())") == "content"


async def test_a_network_that_somebody_removed_is_made_again(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    await place.runtime.stop(name, 0)
    place.engine.networks.get(f"tk_{place.installation}_internal").remove()
    await place.runtime.start(name)
    assert (await seen(place, name)).container.address.startswith("http://10.213.")
    other = await place.up(ask("other", image=tiny_image))
    assert (await seen(place, other)).container.state == "running"


async def test_an_image_that_somebody_removed_is_not_taken_for_there(
    place: Place, docker_engine: docker.DockerClient, tiny_image: str
) -> None:
    tag = f"toolkeeper-test/{place.installation}:1"
    docker_engine.images.get(tiny_image).tag(tag)
    await place.up(ask("one", image=tag))
    docker_engine.images.remove(tag)
    with pytest.raises(Refused) as refused:
        await place.up(ask("two", image=tag, pull_policy="Never"))
    assert refused.value.reason == "ImageNotFound"


async def test_usage_is_of_those_that_run(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    stopped = await place.up(ask("stopped", image=tiny_image))
    await place.runtime.stop(stopped, 0)
    used = await place.runtime.usage(frozenset({name, stopped, "nobody"}))
    assert used.keys() == {name}
    assert 0 < used[name].memory < used[name].memory_limit == 512 * 1024**2
    assert used[name].pids >= 1


async def test_a_server_on_its_own_loopback_is_found_out(place: Place, tiny_image: str) -> None:
    args = ("--host", "127.0.0.1", "--port", "8000")
    hidden = await place.up(ask("hidden", image=tiny_image, args=args))
    visible = await place.up(ask("visible", image=tiny_image))
    silent_one = await place.up(ask("silent", image=tiny_image, command=("sleep", "60")))
    for name in (hidden, visible):
        assert "listening" in await place.first_line(name)
    assert await place.runtime.listening_on_loopback(hidden) is True
    assert await place.runtime.listening_on_loopback(visible) is False
    assert await place.runtime.listening_on_loopback(silent_one) is None


async def test_leaving_removes_the_networks_once_nobody_is_on_them(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    with pytest.raises(Conflict):
        await place.runtime.leave(place.installation)
    await place.runtime.remove(name, 0)
    await place.runtime.leave(place.installation)
    with pytest.raises(Gone):
        place.engine.networks.get(f"tk_{place.installation}_internal")
    await place.up(ask(image=tiny_image))
