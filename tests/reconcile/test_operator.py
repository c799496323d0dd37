from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from reconcile.rig import NO_CA, Rig, edit, fast
from toolkeeper.errors import Fenced, Refused
from toolkeeper.planning.decide import decide
from toolkeeper.planning.desired import Rendered, render
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import Claim, InstanceRequest
from toolkeeper.resources.agentconnection import AgentConnection, AgentConnectionSpec
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FINALIZER, Key, Metadata
from toolkeeper.testing.builders import make_server, make_toolbox
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.faults import StoreFaults
from toolkeeper.testing.virtual import START, in_virtual_time, soon

SECRET = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "token"}}}]


@in_virtual_time
async def test_a_declared_server_becomes_a_container_that_answers() -> None:
    async with Rig().running(make_server()) as rig:
        server = await rig.server()
        assert is_true(server.status.conditions, "Ready")
        assert server.status.phase == "active"
        assert [each.serving for each in rig.box.of("default", "time")] == [True]


@in_virtual_time
async def test_the_finalizer_is_there_before_the_container() -> None:
    class Strict(FakeToolbox):
        rig: Rig

        async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
            server = await self.rig.server(request.server)
            assert FINALIZER in server.metadata.finalizers
            await super().create(claim, container, request)

    rig = Rig()
    strict = Strict()
    strict.rig = rig
    rig.boxes["http://127.0.0.1:30000"] = strict
    async with rig.running(make_server()):
        assert len(strict.containers) == 1


@in_virtual_time
async def test_a_finalizer_that_was_taken_away_comes_back_while_there_is_a_container() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.set_finalizer(await rig.server(), present=False)
        assert (await rig.server()).metadata.finalizers == ()
        await asyncio.sleep(600.0)
        assert (await rig.server()).metadata.finalizers == (FINALIZER,)
        assert len(rig.done("create")) == 1


@in_virtual_time
async def test_at_rest_nothing_is_written_and_nobody_is_called() -> None:
    async with Rig().running(make_server(), make_server("other")) as rig:
        actions, version, events = len(rig.actions), rig.store._version, len(rig.store.events)
        await asyncio.sleep(3600.0)
        assert (len(rig.actions), rig.store._version, len(rig.store.events)) == (actions, version, events)


@pytest.mark.slow
@in_virtual_time
async def test_a_thousand_servers_at_rest_cost_no_write_in_ten_minutes() -> None:
    async with Rig().running(*(make_server(f"server-{number:04d}") for number in range(1000))) as rig:
        await asyncio.sleep(60.0)
        assert len([each for each in rig.box.containers.values() if each.serving]) == 1000
        version, events = rig.store._version, len(rig.store.events)
        await asyncio.sleep(600.0)
        assert (rig.store._version, len(rig.store.events)) == (version, events)


@in_virtual_time
async def test_what_is_quickly_done_is_told_at_its_start_and_at_its_end() -> None:
    images = {"registry.example/time:1": FakeImage(pull=0.1, start=0.1, handshake=0.1)}
    async with Rig(images).running(make_server()) as rig:
        written = rig.sample("toolkeeper_status_writes_total", kind="MCPServer", outcome="written")
        assert await rig.is_ready()
        assert written == 2


@in_virtual_time
async def test_what_takes_longer_is_told_on_its_way() -> None:
    images = {"registry.example/time:1": FakeImage(pull=30.0)}
    async with Rig(images).running(make_server()) as rig:
        assert (await rig.condition("Reconciling")).reason == "Pulling"


@in_virtual_time
async def test_a_removed_container_comes_back_at_once_and_is_counted_as_drift() -> None:
    async with Rig().running(make_server()) as rig:
        began = rig.clock.monotonic()
        rig.box.remove_by_hand(rig.box.of("default", "time")[0].name)
        await asyncio.sleep(0.05)
        assert not await rig.is_ready()
        await soon(lambda: any(each.serving for each in rig.box.of("default", "time")), within=5.0)
        assert rig.clock.monotonic() - began < 1.0
        await asyncio.sleep(1.0)
        assert await rig.is_ready()
        assert rig.sample("toolkeeper_drift_found_total") == 1
        assert rig.sample("toolkeeper_drift_healed_total") == 1


@in_virtual_time
async def test_a_broken_version_leaves_the_old_one_serving_and_is_not_tried_again() -> None:
    images = {"img/broken:1": FakeImage(exits_after=0.2, exit_code=3)}
    async with Rig(images).running(fast(make_server())) as rig:
        await rig.store.apply(fast(make_server(image="img/broken:1")))
        await asyncio.sleep(60.0)
        assert (await rig.condition("RolledBack")).status == "True"
        assert "exit code 3" in (await rig.condition("RolledBack")).message
        assert [each.instance.image for each in rig.box.of("default", "time")] == ["registry.example/time:1"]
        before = len(rig.done("create"))
        await asyncio.sleep(1000.0)
        assert len(rig.done("create")) == before


@in_virtual_time
async def test_a_deadline_is_decided_on_a_fresh_look() -> None:
    images = {"img/mute:1": FakeImage(handshake=None)}
    async with Rig(images).running(fast(make_server())) as rig:
        await rig.store.apply(fast(make_server(image="img/mute:1")))
        await asyncio.sleep(30.0)
        assert (await rig.condition("RolledBack")).status == "True"
        failed = [
            world for world, decision in rig.passes if any("failed" in str(s) for s in decision.plan.steps)
        ]
        assert failed


@in_virtual_time
async def test_a_deleted_server_is_let_go_once_its_container_is_gone() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.delete(Key("MCPServer", "default", "time"))
        await asyncio.sleep(2.0)
        assert rig.box.of("default", "time") == []
        assert [each.key.kind for each in (await rig.store.list()).resources] == ["Toolbox"]
        assert [each.action for each in rig.actions[-2:]] == ["remove", "release"]


@in_virtual_time
async def test_a_server_without_a_place_says_why_and_gets_one_when_there_is_one() -> None:
    async with Rig().running(make_server(toolbox_ref="nowhere")) as rig:
        assert (await rig.condition("Placed")).reason == "ToolboxNotFound"
        await rig.add_box("nowhere", "http://127.0.0.1:1")
        await asyncio.sleep(5.0)
        assert await rig.is_ready()


@in_virtual_time
async def test_a_server_that_moves_is_ready_there_before_it_leaves_here() -> None:
    rig = Rig()
    async with rig.running(make_server()):
        there = await rig.add_box("there", "http://127.0.0.1:1")
        await edit(rig, toolbox_ref="there")
        await asyncio.sleep(5.0)
        assert await rig.is_ready()
        assert [each.serving for each in there.of("default", "time")] == [True]
        assert rig.box.of("default", "time") == []
        assert [each.action for each in rig.done("create", "remove")] == ["create", "create", "remove"]


@in_virtual_time
async def test_a_server_that_must_not_run_twice_waits_for_a_host_that_may_still_have_it() -> None:
    rig = Rig()
    async with rig.running(make_server(exclusive=True)):
        there = await rig.add_box("there", "http://127.0.0.1:1")
        rig.box.unplug()
        await asyncio.sleep(10.0)
        await edit(rig, exclusive=True, toolbox_ref="there")
        await asyncio.sleep(300.0)
        assert there.of("default", "time") == []
        rig.box.plug()
        await asyncio.sleep(60.0)
        assert [each.serving for each in there.of("default", "time")] == [True]


@in_virtual_time
async def test_a_restarted_operator_waits_likewise_for_a_host_that_it_never_saw() -> None:
    former = Rig()
    async with former.running(make_server(exclusive=True)):
        remembered = (await former.server()).status
    rig = Rig()
    rig.box.unplug()
    stored = await rig.store.apply(make_server(exclusive=True))
    await rig.store.write_status(stored.model_copy(update={"status": remembered}))
    there = await rig.add_box("there", "http://127.0.0.1:1")
    await edit(rig, exclusive=True, toolbox_ref="there")
    async with rig.running():
        await asyncio.sleep(300.0)
        assert there.of("default", "time") == []


@in_virtual_time
async def test_a_restarted_operator_has_nothing_to_say_of_what_is_as_it_was() -> None:
    class Far(FakeToolbox):
        async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
            await asyncio.sleep(0.5)
            return await super().state(installation, since=since, wait=wait)

    former = Rig()
    former.box = former.boxes["http://127.0.0.1:30000"] = Far()
    async with former.running(make_server()):
        await former.store.apply(make_toolbox(labels={"zone": "a"}))
        await former.store.apply(make_server("picked", toolbox_selector={"zone": "a"}))
        await asyncio.sleep(10.0)
        assert await former.is_ready("picked")
    version, events = former.store._version, len(former.store.events)
    async with Rig(former=former).running() as rig:
        assert (rig.store._version, rig.store.events[events:]) == (version, [])


@in_virtual_time
async def test_a_restarted_operator_says_soon_that_a_host_is_silent() -> None:
    former = Rig()
    async with former.running(make_server()):
        assert await former.is_ready()
    former.box.unplug()
    async with Rig(former=former).running() as rig:
        assert (await rig.condition("Ready")).reason == "ToolboxUnreachable"


@in_virtual_time
async def test_a_toolbox_with_another_endpoint_is_another_host() -> None:
    rig = Rig()
    async with rig.running(make_server()):
        elsewhere = rig._new_box("http://127.0.0.1:2")
        await rig.store.apply(make_toolbox(endpoint="http://127.0.0.1:2"))
        await asyncio.sleep(5.0)
        assert rig.connected == ["http://127.0.0.1:30000", "http://127.0.0.1:2"]
        assert [each.serving for each in elsewhere.of("default", "time")] == [True]


@in_virtual_time
async def test_a_toolbox_that_is_no_longer_declared_is_left_as_it_is() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.delete(Key("Toolbox", "default", "box"))
        await asyncio.sleep(600.0)
        assert [each.serving for each in rig.box.of("default", "time")] == [True]
        assert rig.done("remove") == []


@in_virtual_time
async def test_a_paused_toolbox_is_observed_and_not_touched() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.apply(make_toolbox(paused=True))
        await asyncio.sleep(1.0)
        rig.box.remove_by_hand(rig.box.of("default", "time")[0].name)
        await asyncio.sleep(100.0)
        assert rig.box.of("default", "time") == []
        assert not await rig.is_ready()


@in_virtual_time
async def test_a_missing_secret_stops_the_start_and_its_arrival_starts_it() -> None:
    async with Rig().running(make_server(env=SECRET)) as rig:
        assert (await rig.condition("SecretsResolved")).status == "False"
        assert rig.box.containers == {}
        rig.store.put_secret("default", "creds", {"token": "sesame"})
        await asyncio.sleep(20.0)
        assert await rig.is_ready()
        (made,) = rig.box.of("default", "time")
        assert made.request.secrets == {"creds/token": "sesame"}


@in_virtual_time
async def test_a_rotated_secret_is_rolled_out() -> None:
    rig = Rig()
    rig.store.put_secret("default", "creds", {"token": "one"})
    async with rig.running(make_server(env=SECRET)):
        rig.store.put_secret("default", "creds", {"token": "two"})
        await asyncio.sleep(10.0)
        (made,) = rig.box.of("default", "time")
        assert made.request.secrets == {"creds/token": "two"}
        assert await rig.is_ready()


@in_virtual_time
async def test_registry_credentials_travel_beside_the_instance_and_not_in_it() -> None:
    rig = Rig()
    rig.store.put_secret("default", "registry", {"username": "u", "password": "p"})
    async with rig.running(make_server(pull_secret_ref="registry")):
        (made,) = rig.box.of("default", "time")
        assert (made.request.registry_username, made.request.registry_password) == ("u", "p")
        assert made.request.secrets == {}


@in_virtual_time
async def test_what_a_toolbox_refuses_is_said_and_not_asked_again_and_again() -> None:
    class Refusing(FakeToolbox):
        asked = 0

        async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
            self.asked += 1
            raise Refused("no room for that", reason="NoSpace")

    rig = Rig()
    rig.boxes["http://127.0.0.1:30000"] = refusing = Refusing()
    async with rig.running(make_server()):
        stalled = await rig.condition("Stalled")
        assert (stalled.reason, stalled.message) == ("NoSpace", "no room for that")
        assert refusing.asked == 1
        await asyncio.sleep(310.0)
        assert refusing.asked == 2


@in_virtual_time
async def test_a_silent_toolbox_delays_nobody_else() -> None:
    rig = Rig()
    silent = await rig.add_box("silent", "http://127.0.0.1:1")
    silent.unplug(silently=True)
    async with rig.running(make_server(), make_server("lost", toolbox_ref="silent")):
        assert await rig.is_ready()
        began = rig.clock.monotonic()
        await edit(rig, image="registry.example/time:2")
        await soon(lambda: "registry.example/time:2" in rig.serving(), within=10.0)
        assert rig.clock.monotonic() - began < 3.0


@in_virtual_time
async def test_a_server_that_breaks_the_renderer_delays_nobody_else() -> None:
    def stumbles(server: MCPServer, **how: Any) -> Rendered:
        if server.metadata.name == "bad":
            raise ZeroDivisionError
        return render(server, **how)

    async with Rig(planner=Planner(render=stumbles)).running(make_server("bad"), make_server("good")) as rig:
        assert await rig.is_ready("good")
        assert rig.box.of("default", "bad") == []


@in_virtual_time
async def test_a_server_that_breaks_the_planner_keeps_what_it_has_and_delays_nobody_else() -> None:
    broken = False

    def stumbles(world: World) -> Decision:
        if broken and any(wanted.server.metadata.name == "bad" for wanted in world.servers):
            raise ZeroDivisionError
        return decide(world)

    async with Rig(planner=Planner(decide=stumbles)).running(make_server("bad"), make_server("good")) as rig:
        broken = True
        await edit(rig, "good", image="registry.example/good:2")
        await asyncio.sleep(600.0)
        assert await rig.is_ready("good")
        assert [each.serving for each in rig.box.of("default", "bad")] == [True]


@in_virtual_time
async def test_an_incomplete_listing_removes_nothing() -> None:
    faults = StoreFaults()
    async with Rig(faults=faults).running(make_server()) as rig:
        faults.hidden = frozenset({Key("MCPServer", "default", "time")})
        await asyncio.sleep(1000.0)
        assert [each.serving for each in rig.box.of("default", "time")] == [True]


@in_virtual_time
async def test_a_container_without_an_owner_goes_after_two_looks() -> None:
    rig = Rig()
    async with rig.running(make_server()):
        rig.store._forget(Key("MCPServer", "default", "time"))
        await asyncio.sleep(50.0)
        assert len(rig.box.of("default", "time")) == 1
        await asyncio.sleep(30.0)
        assert rig.box.of("default", "time") == []


@in_virtual_time
async def test_a_fenced_operator_stops_and_says_so() -> None:
    rig = Rig()
    await rig.store.apply(make_toolbox())
    running = asyncio.create_task(rig.operator.run())
    await asyncio.sleep(5.0)
    await rig.box.claim("test", rig.box.snapshot("test").epoch)
    with pytest.raises(Fenced, match="claimed by a newer leader"):
        await running


@in_virtual_time
async def test_a_wiped_host_is_filled_again_by_the_same_operator() -> None:
    async with Rig().running(make_server()) as rig:
        rig.box.die()
        await asyncio.sleep(60.0)
        assert (await rig.condition("Ready")).status == "Unknown"
        rig.box.come_back(wiped=True)
        await asyncio.sleep(60.0)
        assert await rig.is_ready()
        assert len(rig.done("claim")) == 2


@in_virtual_time
async def test_a_connection_says_when_its_time_is_over_even_if_the_clock_jumps() -> None:
    rig = Rig()
    grant = AgentConnectionSpec(agent="a", server_ref="time", expires_at=START + timedelta(hours=1))
    async with rig.running(make_server()):
        await rig.store.apply(AgentConnection(metadata=Metadata(name="grant"), spec=grant))
        await asyncio.sleep(1.0)
        rig.clock.jump(3600.0)
        await asyncio.sleep(400.0)
        stored = await rig.store.get(Key("AgentConnection", "default", "grant"))
        authorized = find(stored.status.conditions, "Authorized")
        assert authorized is not None
        assert authorized.reason == "Expired"


@in_virtual_time
async def test_an_edit_is_measured_until_it_is_accepted_and_until_it_is_ready() -> None:
    async with Rig().running(make_server()) as rig:
        await edit(rig, image="registry.example/time:2")
        await asyncio.sleep(5.0)
        assert rig.sample("toolkeeper_change_to_accepted_seconds_count") == 2
        assert rig.sample("toolkeeper_change_to_ready_seconds_count") == 2
        assert rig.sample("toolkeeper_deployments_total", outcome="Succeeded", reason="") == 2
        assert rig.sample("toolkeeper_toolbox_reachable", toolbox="default/box") == 1


@in_virtual_time
async def test_every_action_is_recorded_with_its_cause() -> None:
    async with Rig().running(make_server()) as rig:
        (created,) = rig.done("create")
        assert created.because == "it is wanted and not there"
        assert (created.toolbox, created.name, created.outcome) == ("default/box", "time", "accepted")


@in_virtual_time
async def test_a_toolbox_that_cannot_be_connected_to_says_why() -> None:
    rig = Rig()
    rig.boxes.clear()
    async with rig.running(make_server()):
        ready = await rig.condition("Ready")
        assert (ready.status, ready.reason, ready.message) == ("Unknown", "CertificateMismatch", NO_CA)


@in_virtual_time
async def test_many_toolboxes_are_not_all_called_in_the_same_moment() -> None:
    rig = Rig()
    for number in range(100):
        await rig.add_box(f"box{number}", f"http://127.0.0.1:{number}")
    task = asyncio.create_task(rig.operator.run())
    await asyncio.sleep(0.5)
    assert 10 < len(rig.connected) < 60
    await asyncio.sleep(2.0)
    assert len(rig.connected) == 100
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.slow
@in_virtual_time
async def test_a_person_is_served_before_a_restart_storm_is_over() -> None:
    rig = Rig()
    for number in range(100):
        await rig.add_box(f"box{number}", f"http://127.0.0.1:{number}")
        for copy in range(5):
            await rig.store.apply(make_server(f"s{number}x{copy}", toolbox_ref=f"box{number}"))
    async with rig.running(make_server()):
        began = rig.clock.monotonic()
        await edit(rig, image="registry.example/time:2")
        await soon(lambda: "registry.example/time:2" in rig.serving(), within=10.0)
        assert rig.clock.monotonic() - began < 2.0
        assert sum(each.serving for box in rig.boxes.values() for each in box.containers.values()) == 501


@in_virtual_time
async def test_a_toolbox_deleted_with_its_servers_stays_until_they_are_cleaned_up() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.delete(make_toolbox().key)
        await asyncio.sleep(3.0)
        await rig.store.delete(make_server().key)
        await asyncio.sleep(30.0)

        assert rig.box.of("default", "time") == []
        assert (await rig.store.list()).resources == ()


@in_virtual_time
async def test_a_toolbox_that_is_deleted_alone_waits_for_no_server() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.delete(make_toolbox().key)
        await asyncio.sleep(30.0)

        assert [each.kind for each in (await rig.store.list()).resources] == ["MCPServer"]
        assert (await rig.condition("Placed")).reason == "ToolboxNotFound"
        assert rig.serving() == [make_server().spec.image]


@in_virtual_time
async def test_a_toolbox_that_never_had_a_container_is_gone_at_once() -> None:
    async with Rig().running() as rig:
        await rig.store.delete(make_toolbox().key)
        assert (await rig.store.list()).resources == ()
