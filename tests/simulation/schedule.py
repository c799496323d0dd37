"""What happens in one run, drawn from its seed: who is declared, what people do, what goes wrong, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from toolkeeper.testing.fake_toolbox import FakeImage
from toolkeeper.testing.faults import MISHAPS

STORM = 150.0
"""Seconds during which people edit and things break."""
SETTLED = 40.0
"""Seconds before that, for the first deployment."""

IMAGES: Mapping[str, FakeImage] = {
    "img/slow:1": FakeImage(pull=9.0, start=1.0, handshake=6.0),
    "img/crash:1": FakeImage(exits_after=0.3, exit_code=3),
    "img/mute:1": FakeImage(handshake=None),
    "img/missing:1": FakeImage(missing=True),
    "img/late-crash:1": FakeImage(handshake=0.5, exits_after=4.0),
}
BROKEN = ("img/crash:1", "img/mute:1", "img/missing:1")
"""Images that never pass the gate."""

Spec = Mapping[str, Any]
CREDS = {"name": "creds", "key": "token"}
HEALTH = {"startupSeconds": 15, "failureThreshold": 3}
KINDS: Mapping[str, Spec] = {
    "plain": {},
    "stdio": {"transport": "stdio"},
    "volume": {"volumes": [{"name": "data", "path": "/data"}]},
    "reclaim": {"volumes": [{"name": "data", "path": "/data"}], "reclaim": "Delete"},
    "exclusive": {"exclusive": True},
    "recreate": {"rollout": {"strategy": "Recreate", "deadlineSeconds": 20, "drainSeconds": 1}},
    "secret": {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": CREDS}}]},
    "orphan": {"deletion_policy": "Orphan"},
    "selected": {"toolbox_selector": {"pool": "a"}, "health": {**HEALTH, "credentialsRef": CREDS}},
}
ONE_AT_A_TIME = frozenset({"volume", "reclaim", "exclusive"})
COMMON: Spec = {
    "rollout": {"deadlineSeconds": 20, "drainSeconds": 1},
    "health": HEALTH,
}


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that happens."""

    at: float
    what: str
    on: str = ""
    """A server, a toolbox or a process."""
    how: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        how = " ".join(f"{key}={value}" for key, value in self.how.items())
        return f"{self.at:7.2f} {self.what} {self.on} {how}".rstrip()


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run."""

    seed: int
    boxes: tuple[str, ...]
    servers: Mapping[str, tuple[str, Spec]]
    """Name → (kind, spec)."""
    deeds: tuple[Deed, ...]
    operators: int = 1
    unlucky: float = 0.0
    """Seconds by which a lost lease is noticed late."""
    first: Mapping[str, Any] | None = None
    """The mishap that waits for the first process."""
    calm: frozenset[str] = frozenset()
    """Toolboxes on which every edit must be accepted promptly, because nothing goes wrong there."""

    def __str__(self) -> str:
        servers = ", ".join(f"{name} ({kind})" for name, (kind, _) in self.servers.items())
        first = [] if self.first is None else [f"        first process: {dict(self.first)}"]
        return "\n".join([f"toolboxes {', '.join(self.boxes)}; {servers}", *first, *map(str, self.deeds)])


def draw(seed: int) -> Schedule:
    """The schedule of this seed."""
    rng = Random(seed)
    boxes = tuple(f"box{number}" for number in range(1, rng.choice((1, 2, 2, 3)) + 1))
    servers = {name: _server(rng, kind, boxes) for name, kind in _kinds(rng)}
    style = rng.random()
    if style < 0.1 and len(boxes) > 1:
        return _broken_neighbour(seed, rng, boxes, servers)
    if style < 0.2:
        return _upgrade(seed, rng, boxes, servers)
    operators = 2 if rng.random() < 0.3 else 1
    deeds = _edits(rng, tuple(servers), servers, boxes, rng.randint(2, 7))
    if operators == 2:
        deeds += _sleepy_leader(rng, tuple(servers))
    for _ in range(rng.randint(3, 10)):
        deeds += _fault(rng, boxes, tuple(servers), operators)
    return Schedule(
        seed, boxes, servers, _sorted(deeds), operators=operators, unlucky=rng.choice((0.0, 1.0, 10.0, 60.0))
    )


def crash(seed: int, effect: int, *, after: bool) -> Schedule:
    """A calm run with three edits, in which the process dies before or after its n-th side effect."""
    rng = Random(seed)
    boxes = ("box1", "box2")
    servers = {name: _server(rng, kind, boxes) for name, kind in _kinds(rng)}
    deeds = _edits(rng, tuple(servers), servers, boxes, 3)
    mishap = "crash after" if after else "crash before"
    return Schedule(seed, boxes, servers, _sorted(deeds), first={"mishap": mishap, "skip": effect})


def _kinds(rng: Random) -> list[tuple[str, str]]:
    count = rng.randint(3, 5)
    return [(f"{kind}{number}", kind) for number, kind in enumerate(rng.choices(tuple(KINDS), k=count))]


def _server(rng: Random, kind: str, boxes: Sequence[str]) -> tuple[str, Spec]:
    spec: dict[str, Any] = {**COMMON, "image": "img/good:1", **KINDS[kind]}
    if "toolbox_selector" not in spec:
        spec["toolbox_ref"] = rng.choice(boxes)
    return kind, spec


def _sorted(deeds: Sequence[Deed]) -> tuple[Deed, ...]:
    return tuple(sorted(deeds, key=lambda deed: deed.at))


def _moment(rng: Random) -> float:
    return round(rng.uniform(0.0, SETTLED + STORM), 2)


def _edits(
    rng: Random,
    names: Sequence[str],
    servers: Mapping[str, tuple[str, Spec]],
    boxes: Sequence[str],
    count: int,
) -> list[Deed]:
    deeds = []
    for _ in range(count):
        name = rng.choice(names)
        what = rng.choices(
            ("image", "env", "broken", "running", "delete", "recreate", "move", "restart", "rotate", "touch"),
            (6, 3, 4, 3, 2, 2, 2, 1, 1, 1),
        )[0]
        how: dict[str, Any] = {}
        if what == "image":
            how["image"] = rng.choice(
                ("img/good:2", "img/good:3", "img/slow:1", "img/good:1", "img/late-crash:1")
            )
        elif what == "broken":
            how["image"] = rng.choice(BROKEN)
        elif what == "env":
            how["value"] = str(rng.randint(1, 3))
        elif what == "running":
            how["running"] = rng.random() < 0.4
        elif what == "move":
            if servers[name][0] == "selected" or len(boxes) == 1:
                continue
            how["box"] = rng.choice(boxes)
        deeds.append(Deed(_moment(rng), what, name, how))
    return deeds


def _sleepy_leader(rng: Random, names: Sequence[str]) -> list[Deed]:
    """Each process sleeps once, for longer than its lease lasts; when it wakes, there is something to do."""
    deeds = []
    for process, begin in (("1", 5.0), ("2", 95.0)):
        at = round(begin + rng.uniform(0.0, 30.0), 2)
        awake = round(at + rng.uniform(20.0, 45.0), 2)
        deeds += [Deed(at, "pause", process), Deed(awake, "resume", process)]
        for name in rng.sample(names, 2):
            soon = round(awake + rng.uniform(0.05, 8.0), 2)
            deeds.append(Deed(soon, "env", name, {"value": str(rng.randint(4, 9))}))
    return deeds


def _fault(  # noqa: C901, PLR0912 - a table of everything that goes wrong
    rng: Random, boxes: Sequence[str], names: Sequence[str], operators: int
) -> list[Deed]:
    at, box = _moment(rng), rng.choice(boxes)
    process = str(rng.randint(1, operators))
    lasts = round(rng.choice((2.0, 10.0, 40.0, 80.0)) * rng.uniform(0.5, 1.5), 2)
    match rng.choice(FAULTS):
        case "mishap":
            how = {
                "mishap": rng.choice(MISHAPS),
                "skip": rng.randint(0, 3),
                "seconds": rng.choice((1.0, 8.0, 30.0)),
            }
            return [Deed(at, "arm", process, how)]
        case "crash":
            return [Deed(at, "crash", process)]
        case "pause":
            return [Deed(at, "pause", process), Deed(at + lasts, "resume", process)]
        case "host dies":
            wiped = rng.random() < 0.3
            silently = rng.random() < 0.4
            return [
                Deed(at, "die", box, {"silently": silently}),
                Deed(at + lasts, "come back", box, {"wiped": wiped}),
            ]
        case "unplugged":
            return [Deed(at, "unplug", box, {"silently": rng.random() < 0.5}), Deed(at + lasts, "plug", box)]
        case "docker down":
            return [Deed(at, "docker down", box), Deed(at + lasts, "docker up", box)]
        case "agent restarts":
            return [Deed(at, "restart agent", box)]
        case "stranger":
            deed = rng.choice(("stop", "remove", "edit", "kill", "sicken"))
            return [Deed(at, deed, rng.choice(names))]
        case "store":
            fault = rng.choice(("unreachable", "truncated", "empty", "deaf", "muddled"))
            end = min(at + rng.choice((5.0, 30.0, 100.0)), SETTLED + STORM)
            return [Deed(at, "store", "", {"fault": fault}), Deed(end, "store", "", {"fault": ""})]
        case "old":
            return [Deed(at, "old listings", "", {"count": rng.randint(1, 3)})]
        case "stale host":
            return [Deed(at, "stale host", box, {"count": rng.randint(1, 3)})]
        case "lost status":
            return [Deed(at, "lose status")]
        case _:
            return [Deed(at, "clock", "", {"seconds": rng.choice((-86400.0, -60.0, 90.0, 86400.0))})]


FAULTS = (
    *("mishap",) * 6,
    *("crash",) * 2,
    *("stranger",) * 3,
    *("host dies",) * 2,
    "pause",
    "unplugged",
    "docker down",
    "agent restarts",
    *("store",) * 2,
    "old",
    "stale host",
    "lost status",
    "clock",
)


def _broken_neighbour(
    seed: int, rng: Random, boxes: tuple[str, ...], servers: Mapping[str, tuple[str, Spec]]
) -> Schedule:
    """One toolbox never answers, or answers and breaks off; the others must not notice."""
    broken, calm = boxes[-1], frozenset(boxes[:-1])
    here = {
        name: (kind, spec if "toolbox_selector" in spec else {**spec, "toolbox_ref": rng.choice(boxes)})
        for name, (kind, spec) in servers.items()
        if kind not in {"selected", "secret"}
    } or {"plain0": ("plain", {**COMMON, "image": "img/good:1", "toolbox_ref": boxes[0]})}
    deeds = [
        Deed(_moment(rng), "image", name, {"image": f"img/good:{rng.randint(2, 9)}"})
        for name in here
        for _ in range(2)
    ]
    start = rng.choice((0.0, SETTLED))
    deeds += [Deed(start, "unplug", broken, {"silently": rng.random() < 0.7})]
    return Schedule(seed, boxes, here, _sorted(deeds), calm=calm)


def _upgrade(
    seed: int, rng: Random, boxes: tuple[str, ...], servers: Mapping[str, tuple[str, Spec]]
) -> Schedule:
    """A newer Toolkeeper, which would render everything differently, takes over a settled installation."""
    deeds = _edits(rng, tuple(servers), servers, boxes, 4)
    deeds = [Deed(round(deed.at + 2 * SETTLED, 2), deed.what, deed.on, deed.how) for deed in deeds]
    deeds += _fault(rng, boxes, tuple(servers), 1) if rng.random() < 0.3 else []
    deeds = [deed for deed in deeds if deed.at > 2 * SETTLED]
    return Schedule(seed, boxes, servers, _sorted([Deed(SETTLED, "upgrade", "1"), *deeds]))
