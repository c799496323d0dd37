"""What every toolbox must do, whoever plays it: the fake, our node in this process, our node behind a real network.

Subclass `ToolboxContract` in a test module and give it a fixture `stage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from toolkeeper.errors import Conflict, Fenced, NotFound
from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Container, Snapshot
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential, ToolboxClient

KEY = "open-sesame"


@dataclass(slots=True)
class Stage:
    """A toolbox of which nobody has claimed `installation` yet, and what can be run there."""

    client: ToolboxClient
    good: Instance
    """Starts, and answers the handshake."""
    missing: Instance
    """Cannot be had anywhere."""
    guarded: Instance
    """Like `good`, and answers only to `KEY`."""
    installation: str = "contract"
    alone: bool = True
    """Nobody else makes containers there meanwhile."""
    patience: float = 60.0
    """Seconds that anything may take."""

    def name(self, server: str = "time", digit: str = "a") -> str:
        return f"tk_{self.installation}_default_{server}_{digit * 8}"

    def request(
        self, instance: Instance | None = None, server: str = "time", digit: str = "a"
    ) -> InstanceRequest:
        return InstanceRequest("default", server, f"v1:sha256:{digit * 64}", "uid", instance or self.good)

    async def claimed(self) -> Claim:
        return await self.client.claim(self.installation, (await self.client.state(self.installation)).epoch)

    async def until(self, holds: Callable[[Snapshot], bool]) -> Snapshot:
        revision = ""
        async with asyncio.timeout(self.patience):
            while True:
                snapshot = await self.client.state(self.installation, since=revision, wait=10)
                if holds(snapshot):
                    return snapshot
                revision = snapshot.revision

    async def container(self, name: str, holds: Callable[[Container], bool]) -> Container:
        found: list[Container] = []

        def matches(snapshot: Snapshot) -> bool:
            found[:] = [each for each in snapshot.containers if each.name == name and holds(each)]
            return bool(found)

        await self.until(matches)
        return found[0]

    async def gone(self, name: str) -> None:
        await self.until(lambda snapshot: all(each.name != name for each in snapshot.containers))

    def still(self, before: Snapshot, after: Snapshot) -> bool:
        """Whether nothing changed in between; beside others, nothing but the number of their containers."""
        if self.alone or before.foreign == after.foreign:
            return before.revision == after.revision
        return _ageless(before.containers) == _ageless(after.containers)

    async def ready(self, claim: Claim, name: str) -> Container:
        await self.client.create(claim, name, self.request())
        return await self.container(name, answers)


def _ageless(containers: tuple[Container, ...]) -> list[Container]:
    return [replace(each, age=0.0) for each in containers]


def answers(container: Container) -> bool:
    """Whether it runs, and its handshake succeeded."""
    return container.state == "running" and container.handshake is not None and container.handshake.ok


def told(reason: str, version: str) -> Callable[[Container], bool]:
    """Whether it said that to the credential of that version, which is the one in force."""

    def holds(container: Container) -> bool:
        found = container.handshake
        shown = (version, version)
        return (
            found is not None
            and found.reason == reason
            and (found.credential, container.probe_credential) == shown
        )

    return holds


@pytest.mark.anyio
class ToolboxContract:
    """The promises of `reconcile.ports.ToolboxClient`."""

    async def test_a_created_container_runs_and_answers(self, stage: Stage) -> None:
        claim = await stage.claimed()
        container = await stage.ready(claim, stage.name())
        assert (container.namespace, container.server, container.hash) == (
            "default",
            "time",
            f"v1:sha256:{'a' * 64}",
        )
        assert container.handshake is not None
        assert container.handshake.tools
        assert container.run_id
        await stage.client.remove(claim, stage.name(), container_id=container.container_id, drain=1)
        await stage.gone(stage.name())

    async def test_creating_again_changes_nothing(self, stage: Stage) -> None:
        claim = await stage.claimed()
        first = await stage.ready(claim, stage.name())
        before = await stage.client.state(stage.installation)
        await stage.client.create(claim, stage.name(), stage.request())
        after = await stage.client.state(stage.installation)
        assert stage.still(before, after)
        assert (first.container_id, first.run_id) == (
            after.containers[0].container_id,
            after.containers[0].run_id,
        )

    async def test_what_cannot_be_had_is_reported_with_its_reason(self, stage: Stage) -> None:
        claim = await stage.claimed()
        await stage.client.create(claim, stage.name(), stage.request(stage.missing))
        failed = await stage.container(stage.name(), lambda each: each.state == "failed")
        assert failed.error_reason
        assert failed.error
        await stage.client.remove(claim, stage.name(), container_id="", drain=0)
        await stage.gone(stage.name())

    async def test_an_unknown_revision_is_answered_at_once(self, stage: Stage) -> None:
        async with asyncio.timeout(5):
            await stage.client.state(stage.installation, since="another-boot:7", wait=30)

    async def test_nothing_new_is_answered_after_the_wait_with_the_same_revision(self, stage: Stage) -> None:
        first = await stage.client.state(stage.installation)
        again = await stage.client.state(stage.installation, since=first.revision, wait=0.05)
        assert stage.still(first, again)

    async def test_a_change_wakes_whoever_waits(self, stage: Stage) -> None:
        claim = await stage.claimed()
        first = await stage.client.state(stage.installation)
        waiting = asyncio.create_task(stage.client.state(stage.installation, since=first.revision, wait=30))
        await stage.client.create(claim, stage.name(), stage.request())
        async with asyncio.timeout(5):
            assert (await waiting).revision != first.revision

    async def test_a_container_that_stands_still_changes_no_revision(self, stage: Stage) -> None:
        claim = await stage.claimed()
        await stage.ready(claim, stage.name())
        first = await stage.client.state(stage.installation)
        again = await stage.client.state(stage.installation, since=first.revision, wait=0.2)
        assert stage.still(first, again)
        assert again.containers[0].age >= first.containers[0].age

    async def test_only_who_knows_the_epoch_can_claim(self, stage: Stage) -> None:
        claim = await stage.claimed()
        with pytest.raises(Fenced):
            await stage.client.claim(stage.installation, claim.epoch - 1)
        with pytest.raises(Fenced):
            await stage.client.claim(stage.installation, claim.epoch + 1)
        assert (await stage.client.state(stage.installation)).epoch == claim.epoch

    async def test_a_fenced_leader_changes_nothing(self, stage: Stage) -> None:
        old = await stage.claimed()
        container = await stage.ready(old, stage.name())
        await stage.claimed()
        name, client = stage.name(), stage.client
        with pytest.raises(Fenced):
            await client.create(old, stage.name(digit="b"), stage.request(digit="b"))
        with pytest.raises(Fenced):
            await client.start(old, name)
        with pytest.raises(Fenced):
            await client.stop(old, name, drain=0)
        with pytest.raises(Fenced):
            await client.restart(old, name, run_id=container.run_id)
        with pytest.raises(Fenced):
            await client.remove(old, name, container_id=container.container_id, drain=0)
        with pytest.raises(Fenced):
            await client.remove_volume(old, "any")
        with pytest.raises(Fenced):
            await client.give_credential(old, name, ProbeCredential("v1", KEY), container_id="")
        with pytest.raises(Fenced):
            await client.take_credential(old, name, container_id="")
        [only] = (await client.state(stage.installation)).containers
        assert (only.run_id, only.probe_credential) == (container.run_id, "")

    async def test_a_claim_that_was_never_granted_is_refused(self, stage: Stage) -> None:
        claim = await stage.claimed()
        with pytest.raises(Fenced):
            await stage.client.create(replace(claim, epoch=claim.epoch + 1), stage.name(), stage.request())

    async def test_a_stopped_container_stays_and_starts_again_as_another_run(self, stage: Stage) -> None:
        claim = await stage.claimed()
        first = await stage.ready(claim, stage.name())
        await stage.client.stop(claim, stage.name(), drain=2)
        stopped = await stage.container(stage.name(), lambda each: each.state == "exited")
        assert stopped.container_id == first.container_id
        await stage.client.start(claim, stage.name())
        again = await stage.container(stage.name(), answers)
        assert again.container_id == first.container_id
        assert again.run_id != first.run_id

    async def test_a_restart_is_for_one_run_only(self, stage: Stage) -> None:
        claim = await stage.claimed()
        first = await stage.ready(claim, stage.name())
        with pytest.raises(Conflict):
            await stage.client.restart(claim, stage.name(), run_id="another")
        await stage.client.restart(claim, stage.name(), run_id=first.run_id)
        again = await stage.container(
            stage.name(), lambda each: answers(each) and each.run_id != first.run_id
        )
        assert again.container_id == first.container_id

    async def test_a_removal_is_for_one_container_only(self, stage: Stage) -> None:
        claim = await stage.claimed()
        first = await stage.ready(claim, stage.name())
        with pytest.raises(Conflict):
            await stage.client.remove(claim, stage.name(), container_id="another", drain=0)
        [still] = (await stage.client.state(stage.installation)).containers
        assert still.run_id == first.run_id

    async def test_a_credential_opens_a_server_without_touching_its_container(self, stage: Stage) -> None:
        claim, name, client = await stage.claimed(), stage.name(), stage.client
        assert "probe-credentials" in (await client.state(stage.installation)).features
        await client.create(claim, name, stage.request(stage.guarded))
        closed = await stage.container(name, told("AuthRequired", ""))
        assert closed.handshake is not None
        assert closed.handshake.tools == ()
        id = closed.container_id
        await client.give_credential(claim, name, ProbeCredential("v1", "wrong"), container_id=id)
        refused = await stage.container(name, told("CredentialsRefused", "v1"))
        await client.give_credential(claim, name, ProbeCredential("v2", KEY), container_id=id)
        opened = await stage.container(name, told("Reachable", "v2"))
        assert opened.handshake is not None
        assert opened.handshake.tools
        runs = {(each.container_id, each.run_id) for each in (closed, refused, opened)}
        assert len(runs) == 1
        await client.take_credential(claim, name, container_id=closed.container_id)
        await stage.container(name, told("AuthRequired", ""))

    async def test_a_credential_waits_for_a_container_that_is_being_made(self, stage: Stage) -> None:
        claim, name = await stage.claimed(), stage.name()
        await stage.client.create(claim, name, stage.request(stage.guarded))
        await stage.client.give_credential(claim, name, ProbeCredential("v1", KEY), container_id="")
        await stage.container(name, told("Reachable", "v1"))

    async def test_a_credential_is_for_one_container_only(self, stage: Stage) -> None:
        claim, name, credential = await stage.claimed(), stage.name(), ProbeCredential("v1", KEY)
        with pytest.raises(NotFound):
            await stage.client.give_credential(claim, name, credential, container_id="")
        await stage.client.take_credential(claim, name, container_id="")
        await stage.ready(claim, name)
        with pytest.raises(Conflict):
            await stage.client.give_credential(claim, name, credential, container_id="another")
        [still] = (await stage.client.state(stage.installation)).containers
        assert still.probe_credential == ""

    async def test_removing_what_is_absent_is_success(self, stage: Stage) -> None:
        claim = await stage.claimed()
        await stage.client.remove(claim, stage.name("nobody"), container_id="", drain=0)
        await stage.client.remove_volume(claim, "tk_nobody")

    async def test_starting_what_is_absent_is_not(self, stage: Stage) -> None:
        claim = await stage.claimed()
        with pytest.raises(NotFound):
            await stage.client.start(claim, stage.name("nobody"))

    async def test_another_installation_sees_nothing_but_a_foreign_container(self, stage: Stage) -> None:
        claim = await stage.claimed()
        before = (await stage.client.state("stranger")).foreign
        await stage.ready(claim, stage.name())
        others = await stage.client.state("stranger")
        assert others.containers == ()
        assert others.foreign == before + 1 if stage.alone else others.foreign >= 1
