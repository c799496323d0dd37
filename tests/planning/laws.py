"""The laws that hold in every world: carried out, a plan leads to rest; looked at twice, a world looks the same."""

from __future__ import annotations

from collections import defaultdict

from planning.host import Fleet, Pass
from toolkeeper.planning.observed import Container, Snapshot
from toolkeeper.planning.plan import Step
from toolkeeper.resources.meta import Key

PASSES = 60
PATIENCE = 4
"""Waits in a row in which nothing becomes different, after which a world is at rest."""


def converge(fleet: Fleet) -> list[Pass]:
    """Carry out one plan after the other until there is nothing to do; all passes, the last one quiet."""
    passes: list[Pass] = []
    waited = 0
    for _ in range(PASSES):
        found = fleet.look()
        check_pass(fleet, found)
        passes.append(found)
        same = not (found.servers or found.toolboxes or found.released)
        fleet.carry_out(found)
        check_hosts(fleet)
        fleet.settle()
        if not found.quiet:
            waited = waited if same else 0
            continue
        if found.wake_after is None or waited >= PATIENCE:
            return passes
        waited += 1
        fleet.pass_time(found.wake_after)
    told = "\n".join(map(str, passes[-6:]))
    raise AssertionError(f"no rest after {PASSES} passes; the last ones:\n{told}")


def check_pass(fleet: Fleet, found: Pass) -> None:
    """What must hold of every single decision."""
    again, backwards = fleet.look(), fleet.look(backwards=True)
    for other, why in ((again, "a second look"), (backwards, "another order")):
        assert str(found) == str(other), f"{why} plans something else:\n{found}\n---\n{other}"
        assert found.servers == other.servers, f"{why} reports something else"
        assert found.toolboxes == other.toolboxes, f"{why} reports something else"
        assert found.released == other.released, f"{why} lets something else go"
        assert sorted(map(str, found.events)) == sorted(map(str, other.events)), f"{why} tells something else"
    for key, decision in found.decisions.items():
        host = fleet.hosts[key]
        blind = not isinstance(host.observation, Snapshot) or not host.observation.runtime_ok
        assert not (blind and decision.plan.steps), f"acted on what was not observed: {decision.plan}"
        strangers = {c.name for c in host.snapshot.containers if c.installation != fleet.policy.installation}
        touched = {step.container for step in decision.plan.steps}
        assert not touched & strangers, f"touched a stranger: {touched & strangers}"

        for step in decision.plan.steps:
            check_step(fleet, key, step)


def check_step(fleet: Fleet, toolbox: Key, step: Step) -> None:
    """What must hold of every single step."""
    assert step.because, f"no cause: {step}"
    server = fleet.servers.get(step.server)
    if server is None or step.verb not in ("create", "start"):
        return
    spec = server.spec
    alone = spec.exclusive or any(not volume.read_only for volume in spec.volumes)
    if alone or spec.rollout.strategy == "Recreate":
        beside = [
            each.name
            for key, host in fleet.hosts.items()
            for each in host.snapshot.containers
            if (each.namespace, each.server) == (step.server.namespace, step.server.name)
            if each.installation == fleet.policy.installation
            if each.state in ("running", "restarting", "paused") and (key == toolbox or alone)
            if (key, each.name) != (toolbox, step.container)
        ]
        assert not beside, f"{step}, but {beside} run"


def check_hosts(fleet: Fleet) -> None:
    """Never two of one server in service, but for two versions in a rollout or two toolboxes in a move."""
    for host in fleet.hosts.values():
        serving: dict[tuple[str, str], list[Container]] = defaultdict(list)
        for each in host.snapshot.containers:
            ours = each.installation == fleet.policy.installation
            if ours and each.handshake is not None and each.handshake.ok and each.state == "running":
                serving[each.namespace, each.server].append(each)
        for (namespace, name), those in serving.items():
            server = fleet.servers.get(Key("MCPServer", namespace, name))
            assert len({each.hash for each in those}) == len(those), f"two of one version serve: {name}"
            assert server is None or len(those) <= 2 + _leftovers(those), f"too many of {name} serve"


def _leftovers(those: list[Container]) -> int:
    """Containers that the world began with are none of the plan's doing."""
    return sum(not each.container_id.startswith("new-") for each in those)
