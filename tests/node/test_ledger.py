"""What a node knows, and how it says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from toolkeeper.errors import Fenced, Refused, Unreachable
from toolkeeper.node.ledger import MOST_SHOWN
from toolkeeper.planning.instance import EnvEntry, Instance, SecretUse
from toolkeeper.planning.observed import Container, Snapshot
from toolkeeper.reconcile.ports import Claim, ProbeCredential
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import INSTALLATION, Stand, container_of, request_of, standing

pytestmark = pytest.mark.anyio
TIME = container_of("time")


def only(snapshot: Snapshot) -> Container:
    [container] = snapshot.containers
    return container


def runs(snapshot: Snapshot) -> bool:
    return any(each.state == "running" for each in snapshot.containers)


async def test_work_shows_as_it_goes_on_and_ends_as_what_was_seen() -> None:
    runtime = FakeRuntime()
    runtime.gate.clear()
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request_of("time"))
        assert only(await stand.client.state(INSTALLATION)).state == "pending"
        runtime.steps = (("pulling", "50 %"),)
        runtime.gate.set()
        assert only(await stand.until(runs)).container_id == "id-1"


async def test_progress_says_what_is_under_way() -> None:
    runtime = FakeRuntime(steps=(("pulling", "43 %"), ("building", "installing packages")))
    seen: list[str] = []
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        runtime.gate.clear()
        await stand.client.create(claim, TIME, request_of("time"))
        runtime.gate.set()
        revision = ""
        while "running" not in seen:
            snapshot = await stand.client.state(INSTALLATION, since=revision, wait=10)
            revision = snapshot.revision
            seen += [each.progress or each.state for each in snapshot.containers]
    assert {"pulling 43 %", "building: installing packages"} >= set(seen) - {"pending", "running", "created"}


async def test_a_create_that_fails_stays_visible_until_it_is_removed() -> None:
    runtime = FakeRuntime(refusal=Refused("there is no such image", reason="ImageNotFound"))
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request_of("time"))
        failed = only(await stand.until(lambda now: now.containers and now.containers[0].state == "failed"))
        assert (failed.error_reason, failed.error) == ("ImageNotFound", "there is no such image")
        await stand.client.remove(claim, TIME, container_id="", drain=0)
        assert (await stand.until(lambda now: not now.containers)).containers == ()


async def test_a_failed_create_can_be_tried_again() -> None:
    runtime = FakeRuntime(refusal=Refused("the registry is busy", reason="ImagePullFailed"))
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request_of("time"))
        await stand.until(lambda now: now.containers and now.containers[0].state == "failed")
        runtime.refusal = None
        await stand.client.create(claim, TIME, request_of("time"))
        assert only(await stand.until(runs)).error_reason == ""


async def test_what_strangers_do_to_a_container_is_seen() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        await _created(stand)
        runtime.change(TIME, state="exited", exit_code=3)
        assert only(await stand.until(lambda now: now.containers[0].state == "exited")).exit_code == 3
        runtime.vanish(TIME)
        await stand.until(lambda now: not now.containers)


async def test_a_runtime_that_does_not_answer_is_never_an_empty_host() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        claim = await _created(stand)
        runtime.go_down()
        down = await stand.until(lambda now: not now.runtime_ok)
        assert down.runtime_message
        with pytest.raises(Unreachable):
            await stand.client.remove(claim, TIME, container_id="", drain=0)
        runtime.come_up()
        assert runs(await stand.until(lambda now: now.runtime_ok))


async def test_a_look_that_began_before_a_change_does_not_undo_it() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        await _created(stand)
        ledger = stand.node._ledger
        early = ledger.look_begins()
        sight = await runtime.look()
        runtime.vanish(TIME)
        await stand.until(lambda now: not now.containers)
        ledger.saw(sight, early)
        assert (await stand.client.state(INSTALLATION)).containers == ()


async def test_only_eight_creates_run_at_once_but_a_pull_holds_nobody_up() -> None:
    runtime = FakeRuntime(steps=(("created", ""),))
    runtime.gate.clear()
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        for number in range(20):
            server = f"s{number}"
            await stand.client.create(claim, container_of(server), request_of(server))
        await asyncio.sleep(0)
        assert runtime.creating == 8
        runtime.gate.set()
        await stand.until(lambda now: sum(each.state == "running" for each in now.containers) == 20)
    assert runtime.most_creating == 8


async def test_whoever_pulls_gives_way() -> None:
    pulled = asyncio.Event()
    runtime = FakeRuntime(steps=(("pulling", ""), ("created", "")), holds={"created": pulled})
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        for number in range(6):
            server = f"s{number}"
            await stand.client.create(claim, container_of(server), request_of(server))
        await stand.until(lambda now: sum(each.state == "pulling" for each in now.containers) == 6)
        pulled.set()
        await stand.until(lambda now: sum(each.state == "running" for each in now.containers) == 6)


async def test_a_leader_that_is_fenced_off_while_it_works_changes_nothing_more() -> None:
    runtime = FakeRuntime()
    runtime.gate.clear()
    async with standing(runtime) as stand:
        old = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(old, TIME, request_of("time"))
        await asyncio.sleep(0)
        new = await stand.client.claim(INSTALLATION, old.epoch)
        runtime.gate.set()
        await stand.until(lambda now: not now.containers)
        assert [call for call in runtime.calls if call.startswith("step")] == []
        await stand.client.create(new, TIME, request_of("time"))
        await stand.until(runs)


async def test_work_goes_on_when_the_new_leader_wants_the_same() -> None:
    runtime = FakeRuntime()
    runtime.gate.clear()
    async with standing(runtime) as stand:
        old = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(old, TIME, request_of("time"))
        new = await stand.client.claim(INSTALLATION, old.epoch)
        await stand.client.create(new, TIME, request_of("time"))
        runtime.gate.set()
        await stand.until(runs)
    assert runtime.calls.count(f"create {TIME}") == 1


async def test_a_removal_cancels_what_is_under_way() -> None:
    runtime = FakeRuntime()
    runtime.gate.clear()
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request_of("time"))
        await asyncio.sleep(0)
        await stand.client.remove(claim, TIME, container_id="", drain=0)
        runtime.gate.set()
        await stand.until(lambda now: not now.containers)
    assert f"step {TIME} created" not in runtime.calls
    assert runtime.containers == {}


async def test_what_is_given_up_while_it_is_made_is_not_absent_before_that_is_over() -> None:
    runtime = FakeRuntime()
    runtime.gate.clear()
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request_of("time"))
        await asyncio.sleep(0)
        await stand.client.remove(claim, TIME, container_id="", drain=0)
        assert only(await stand.client.state(INSTALLATION)).state == "removing"
        runtime.gate.set()
        await stand.until(lambda now: not now.containers)


async def test_a_container_that_drains_shows_as_removing_with_everything_it_was() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        claim = await _created(stand)
        runtime.gate.clear()
        await stand.client.remove(claim, TIME, container_id="id-1", drain=30)
        draining = only(await stand.client.state(INSTALLATION))
        assert (draining.state, draining.container_id) == ("removing", "id-1")
        runtime.gate.set()
        await stand.until(lambda now: not now.containers)


async def test_a_container_that_was_replaced_meanwhile_is_not_removed() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        claim = await _created(stand)
        seen = runtime.containers[TIME]
        # Behind the node's back: no change is told.
        runtime.containers[TIME] = replace(seen, container=replace(seen.container, container_id="another"))
        await stand.client.remove(claim, TIME, container_id="id-1", drain=0)
        await stand.until(lambda now: only(now).container_id == "another" and only(now).state == "running")
    assert f"remove {TIME}" not in runtime.calls


async def test_secret_values_are_masked_wherever_the_host_speaks() -> None:
    runtime = FakeRuntime(lines=("connecting with hunter22", "pw=abc"))
    entry = EnvEntry("PASSWORD", secret=SecretUse("db", "password", "1"))
    instance = Instance(1, "stdio", image="tiny", env=(entry,))
    request = request_of("time", instance, secrets={"db/password": "hunter22", "db/short": "abc"})
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request)
        await stand.until(runs)
        runtime.change(TIME, state="exited", exit_code=1, last_log=("cannot log in with hunter22",))
        exited = only(await stand.until(lambda now: now.containers[0].state == "exited"))
        assert exited.last_log == ("cannot log in with ••••",)
        lines = [line async for line in stand.client.logs(TIME, tail=10, follow=False)]
        assert lines == ["connecting with ••••", "pw=abc"]


async def test_of_the_credentials_of_its_probes_the_latest_are_masked() -> None:
    tokens = [f"token-{number:02}" for number in range(MOST_SHOWN + 1)]
    runtime = FakeRuntime(lines=tuple(tokens))
    instance = Instance(1, "stdio", image="tiny", env=(EnvEntry("T", secret=SecretUse("t", "t", "1")),))
    request = request_of("time", instance, secrets={"t/t": tokens[0]})
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        await stand.client.create(claim, TIME, request)
        await stand.until(runs)
        for version, token in enumerate((*tokens, tokens[1], "another")):
            credential = ProbeCredential(f"v{version}", token)
            await stand.client.give_credential(claim, TIME, credential, container_id="")
        lines = [line async for line in stand.client.logs(TIME, tail=100, follow=False)]
    # The first is known to the server itself, the second was shown again.
    assert [line for line in lines if line in tokens] == [tokens[2]]


async def test_epochs_outlive_the_agent(tmp_path: Path) -> None:
    async with standing(FakeRuntime(), tmp_path / "node.db") as stand:
        first = await stand.client.claim(INSTALLATION, 0)
    assert (tmp_path / "node.db").stat().st_mode & 0o777 == 0o600
    async with standing(FakeRuntime(), tmp_path / "node.db") as stand:
        with pytest.raises(Fenced):
            await stand.client.claim(INSTALLATION, 0)
        assert (await stand.client.claim(INSTALLATION, first.epoch)).epoch == first.epoch + 1


async def test_a_new_boot_answers_old_revisions_at_once() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        old = (await stand.client.state(INSTALLATION)).revision
    async with standing(runtime) as stand, asyncio.timeout(20):
        assert (await stand.client.state(INSTALLATION, since=old, wait=30)).revision != old


async def test_a_volume_in_use_is_not_removed() -> None:
    runtime = FakeRuntime(volumes={INSTALLATION: ("tk_notes",)})
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        assert (await stand.client.state(INSTALLATION)).volumes == ("tk_notes",)
        await stand.client.remove_volume(claim, "tk_notes")
        await stand.until(lambda now: now.volumes == ())


async def _created(stand: Stand) -> Claim:
    claim = await stand.client.claim(INSTALLATION, 0)
    await stand.client.create(claim, TIME, request_of("time"))
    await stand.until(runs)
    return claim
