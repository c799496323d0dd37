"""Doing what the schedule says: to hosts, processes, the store, and what people declare."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from simulation.oracles import INSTALLATION
from simulation.schedule import BROKEN, Deed, Spec
from toolkeeper.errors import NotFound
from toolkeeper.resources.meta import RESTARTED_AT, Key
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.faults import Armed, Process

if TYPE_CHECKING:
    from simulation.world import Run


class Deeds:
    """What happens to one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def do(self, deed: Deed) -> None:
        self._run.note(f"* {deed}")
        if deed.on in self._run.boxes:
            self._to_box(self._run.boxes[deed.on], deed)
        elif deed.on in self._run.schedule.servers:
            await self._to_server(deed)
        elif deed.on in self._run.processes:
            self._to_process(self._run.processes[deed.on], deed)
        else:
            self._to_all(deed)

    def _to_box(self, box: FakeToolbox, deed: Deed) -> None:  # noqa: C901, PLR0912 - a table
        match deed.what:
            case "die":
                box.die(**deed.how)
            case "come back":
                self._come_back(box, **deed.how)
            case "unplug":
                box.unplug(**deed.how)
            case "plug":
                if box.powered:
                    box.plug()
            case "docker down":
                box.docker_down()
            case "docker up":
                if not box.docker_ok and box.powered:
                    box.docker_up()
            case "restart agent":
                if box.powered:
                    box.restart_agent()
            case "stale host":
                for client in self._run.clients:
                    if client._box is box:
                        client.stale = deed.how["count"]

    def _come_back(self, box: FakeToolbox, *, wiped: bool) -> None:
        if not box.powered:
            box.come_back(wiped=wiped)
            if wiped:
                self._run.wiped.add(box.name)
                self._run.oracles.writer.pop(box.name, None)

    def _to_process(self, process: Process, deed: Deed) -> None:
        match deed.what:
            case "arm":
                process.armed.append(Armed(**deed.how))
            case "crash":
                process.crash()
            case "pause":
                process.sleep()
            case "resume":
                process.wake()
            case "upgrade":
                self._run.upgraded = True
                self._run._wanted.clear()
                process.crash()

    async def _to_server(self, deed: Deed) -> None:
        name, how = deed.on, deed.how
        spec = self._run.declared[name]
        if deed.what in {"stop", "remove", "edit", "kill", "sicken"}:
            self._by_hand(name, deed.what)
        elif deed.what == "recreate" or (spec is None and deed.what != "delete"):
            await self._delete(name)
            await self._run.apply(name, self._run.schedule.servers[name][1])
        elif spec is None or deed.what == "delete":
            await self._delete(name)
        else:
            await self._edit(name, spec, deed.what, how)

    async def _edit(self, name: str, spec: Spec, what: str, how: Mapping[str, Any]) -> None:
        match what:
            case "image" | "broken" | "running":
                await self._run.apply(name, {**spec, **how})
            case "env":
                kept = [each for each in spec.get("env", ()) if each["name"] != "X"]
                await self._run.apply(name, {**spec, "env": [*kept, {"name": "X", "value": how["value"]}]})
            case "move":
                await self._run.apply(name, {**spec, "toolbox_ref": how["box"]})
            case "restart":
                await self._run.apply(name, spec, annotations={RESTARTED_AT: f"{self._run.loop.time():.0f}"})
            case "rotate":
                self._run.changed |= dict.fromkeys(self._run.declared, self._run.loop.time())
                self._run.secret = "s3cr3t-two" if self._run.secret == "s3cr3t-one" else "s3cr3t-one"
                self._run.store.put_secret("default", "creds", {"token": self._run.secret})
            case "touch":
                await self._run.apply(name, spec, labels={"touched": f"{self._run.loop.time():.0f}"})

    async def _delete(self, name: str) -> None:
        self._run.declared[name] = None
        with suppress(NotFound):
            await self._run.store.delete(Key("MCPServer", "default", name))
        self._run.remember()

    def _by_hand(self, name: str, what: str) -> None:
        for box in self._run.boxes.values():
            for each in box.of("default", name):
                if not box.powered or not box.docker_ok or each.installation != INSTALLATION:
                    continue
                match what:
                    case "stop":
                        box.stop_by_hand(each.name)
                    case "remove":
                        box.remove_by_hand(each.name)
                    case "edit":
                        box.edit_by_hand(each.name, memory=1 << 20)
                    case "kill":
                        box.kill_process(each.name)
                    case "sicken":
                        box.fall_ill(each.name, 3)

    def _to_all(self, deed: Deed) -> None:
        match deed.what:
            case "store":
                self._store_fault(deed.how["fault"])
            case "old listings":
                self._run.faults.old_listings = deed.how["count"]
            case "lose status":
                self._run.store.lose_status()
                self._run.lost_status = True
                self._run.remember()
            case "clock":
                self._run.clock.jump(deed.how["seconds"])

    def _store_fault(self, fault: str) -> None:
        self._run.faults.clear()
        if fault == "truncated":
            servers = sorted(key for key in self._run.store._objects if key.kind == "MCPServer")
            self._run.faults.hidden = frozenset(self._run.rng.sample(servers, (len(servers) + 1) // 2))
        elif fault:
            setattr(self._run.faults, fault, True)
        self._run.store.notify()

    async def calm_down(self) -> None:
        """Everything works again, and what people last declared can work."""
        self._run.note("--- calm")
        self._run.faults.clear()
        for process in self._run.processes.values():
            process.armed.clear()
            process.wake()
        for client in self._run.clients:
            client.stale = 0
        for box in self._run.boxes.values():
            if not self._run.schedule.calm:
                self._repair(box)
        for name, spec in list(self._run.declared.items()):
            image = "" if spec is None else spec["image"]
            if spec is not None and (
                name in self._run.restless or (image in BROKEN and self._run.rng.random() < 0.6)
            ):
                await self._run.apply(name, {**spec, "image": "img/good:9"})

    def _repair(self, box: FakeToolbox) -> None:
        if not box.powered:
            self._come_back(box, wiped=False)
        elif box.mood != "answers":
            box.plug()
        if not box.docker_ok:
            box.docker_up()
