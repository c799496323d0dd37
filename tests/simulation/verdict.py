"""What must be true once everything has been quiet for long enough: the world is as declared, and status says so."""

from __future__ import annotations

from simulation.oracles import INSTALLATION
from simulation.schedule import BROKEN, Spec
from simulation.world import Run
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.fake_toolbox import FakeContainer

PROMPTLY = 6.0
"""Seconds within which an edit must reach a toolbox that works, whatever happens to the others."""


def judge(run: Run) -> None:
    """Compare what is with what was declared; violations go to the run's oracles."""
    for name, spec in run.declared.items():
        server = run.store._objects.get(Key("MCPServer", "default", name))
        if spec is None:
            _gone(run, name, server)
        elif not isinstance(server, MCPServer):
            run.oracles.violated(5, f"{name} is declared and not in the store")
        elif spec.get("toolbox_ref") in run.schedule.calm or not run.schedule.calm:
            _as_declared(run, name, spec, server)
    for box in run.boxes.values():
        _toolbox(run, box.name)
    _promptness(run)


def _containers(run: Run, name: str) -> list[tuple[str, FakeContainer]]:
    return [
        (box.name, each)
        for box in run.boxes.values()
        for each in box.of("default", name)
        if each.installation == INSTALLATION
    ]


def _gone(run: Run, name: str, server: object) -> None:
    if server is not None:
        run.oracles.violated(6, f"{name} was deleted and is still there")
    orphaned = run.schedule.servers[name][0] == "orphan"
    for box, each in () if orphaned else _containers(run, name):
        run.oracles.violated(6, f"{name} was deleted and left {each.name} on {box}")
    if run.schedule.servers[name][0] == "reclaim":
        for toolbox in run.boxes.values():
            left = [volume for volume in toolbox.volumes if f"_{name}_" in volume]
            # What somebody moved away from stays where it was: nobody is asked to look there any more.
            moved = any(deed.what == "move" and deed.on == name for deed in run.schedule.deeds)
            if left and not run.lost_status and not moved:
                run.oracles.violated(
                    6, f"{name} was deleted with reclaim: Delete and left {left} on {toolbox.name}"
                )


def _as_declared(run: Run, name: str, spec: Spec, server: MCPServer) -> None:
    here = _containers(run, name)
    wanted = run.hashes(server)
    ours = [each for _, each in here if each.request.hash in wanted]
    # Somebody who stops or kills a candidate before it answers makes it fail its gate.
    meddled = any(deed.on == name and deed.what in {"stop", "kill"} for deed in run.schedule.deeds)
    failed = meddled and is_true(server.status.conditions, "RolledBack")
    if failed or spec["image"] in BROKEN:
        _truthful_about_failure(run, server, here)
        return
    told = f"{name}: {[(box, each.name, each.state) for box, each in here]}, {server.status.phase}"
    if not spec.get("running", True):
        if any(each.state in {"running", "restarting"} for _, each in here):
            run.oracles.violated(5, f"should be stopped: {told}")
        if server.status.phase != "stopped":
            run.oracles.violated(7, f"is stopped and not said to be: {told}")
        return
    if len(here) != 1 or len(ours) != 1 or not ours[0].serving:
        run.oracles.violated(1 if len(here) > 1 else 5, f"should be one container that serves: {told}")
        return
    if spec.get("toolbox_ref") not in (None, here[0][0]):
        run.oracles.violated(5, f"is on the wrong toolbox: {told}")
    _says_so(run, server, ours[0], told)
    shown = "" if ours[0].credential is None else ours[0].credential.value
    if shown != (run.secret if "credentialsRef" in spec["health"] else ""):
        run.oracles.violated(5, f"its probe shows {shown or 'nothing'}: {told}")


def _says_so(run: Run, server: MCPServer, container: FakeContainer, told: str) -> None:
    ready = find(server.status.conditions, "Ready")
    if ready is None or ready.status != "True" or ready.observed_generation != server.metadata.generation:
        run.oracles.violated(7, f"serves and is not said to: {told} {ready}")
    elif (
        server.status.container_id != container.container_id
        or server.status.running_hash != container.request.hash
    ):
        run.oracles.violated(7, f"serves, but status names another: {told} {server.status.container_id}")
    for type in ("Reconciling", "Stalled", "RolledBack"):
        if (found := find(server.status.conditions, type)) is not None:
            run.oracles.violated(5, f"is as declared and still {type} ({found.reason}): {told}")


def _truthful_about_failure(run: Run, server: MCPServer, here: list[tuple[str, FakeContainer]]) -> None:
    """A version that cannot pass the gate: an older one serves, or nothing does, and status says which."""
    told = f"{server.metadata.name}: {[(box, each.name, each.state) for box, each in here]}"
    # One that was left on its former toolbox still serves there, but is no longer what the endpoint names.
    serving = [each for box, each in here if each.serving and server.spec.toolbox_ref in (None, box)]
    ready = find(server.status.conditions, "Ready")
    says = ready is not None and ready.status == "True"
    if server.spec.running and says != bool(serving):
        run.oracles.violated(7, f"status says Ready={says}, and {len(serving)} serve: {told}")
    if says and ready is not None and ready.observed_generation == server.metadata.generation:
        run.oracles.violated(7, f"a broken version is said to be Ready: {told}")
    if len(serving) > 1:
        run.oracles.violated(1, f"should be at most one container: {told}")
    if server.spec.running and not is_true(server.status.conditions, "Stalled"):
        run.oracles.violated(7, f"is broken and not said to be: {told} {server.status.phase}")


def _toolbox(run: Run, name: str) -> None:
    box = run.boxes[name]
    toolbox = run.store._objects[Key("Toolbox", "default", name)]
    assert isinstance(toolbox, Toolbox)
    says = is_true(toolbox.status.conditions, "Ready")
    if says != (box.mood == "answers" and box.docker_ok):
        run.oracles.violated(7, f"{name} is said to be Ready={says} and is {box.mood}")
    for stranger in box.strangers.values():
        if stranger.touched:
            run.oracles.violated(2, f"{stranger.name} was touched: {stranger.touched}")
    others = [each for each in box.containers.values() if each.installation == "other"]
    if not others and name not in run.wiped:
        run.oracles.violated(2, f"the container of another installation is gone from {name}")


def _promptness(run: Run) -> None:
    for at, name in run.edits:
        if not any(
            at <= when <= at + PROMPTLY and f"_{name}_" in container
            for when, _, _, container in run.oracles.accepted
        ):
            run.oracles.violated(11, f"the edit of {name} at {at:.2f} s had no effect within {PROMPTLY:g} s")
