"""The credential that a server's probes show reaches its host by steps of its own: it is no part of the container, so
a rotated one restarts nothing, and a restarted node, which keeps it in memory only, is given it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toolkeeper.planning.lifecycle import Stage
from toolkeeper.planning.observed import Container
from toolkeeper.planning.plan import Step
from toolkeeper.planning.situation import Situation

CANNOT_HOLD = frozenset({Stage.FAILED, Stage.DEAD, Stage.REMOVING})


def lend(s: Situation, steps: Sequence[Step]) -> Iterator[Step]:
    """After these steps: give each probe the credential that is wanted now, or take back one that is not."""
    going = {step.container for step in steps if step.verb == "remove"}
    for step in steps:
        if step.verb == "create":
            yield from _give(s, step.container, "", "spec.health.credentialsRef names one for its probe")
    created = {step.container for step in steps if step.verb == "create"}
    for container in _holders(s):
        if container.name not in going | created:
            yield from _settle(s, container)


def _holders(s: Situation) -> Iterator[Container]:
    if s.match is not None and s.at not in CANNOT_HOLD:
        yield s.match
    # An older version may know only the credential of its time: that is left to it, unless it serves for good.
    if s.keeper is not None and s.kept_at not in CANNOT_HOLD and (s.failed or not s.keeper.probe_credential):
        yield s.keeper


def _settle(s: Situation, container: Container) -> Iterator[Step]:
    held, probe = container.probe_credential, s.wanted.probe
    if probe is None:
        if held:
            because = "spec.health.credentialsRef names none any more"
            yield s.step("take-credential", container, because)
    elif held != probe.version:
        why = "the credential for its probe has changed" if held else "its probe has no credential yet"
        yield from _give(s, container.name, container.container_id, why)


def _give(s: Situation, container: str, container_id: str, because: str) -> Iterator[Step]:
    probe = s.wanted.probe
    if probe is not None and probe.version and s.wanted.probe_not_taken is None:
        yield Step(
            verb="give-credential",
            server=s.wanted.server.key,
            container=container,
            because=because,
            container_id=container_id,
            secret=probe,
        )
