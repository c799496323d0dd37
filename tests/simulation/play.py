"""Playing one schedule in virtual time: `python -m simulation.play SEED` prints what happened."""

from __future__ import annotations

import gc
import sys

from simulation import schedule as schedules
from simulation.schedule import Schedule
from simulation.verdict import judge
from simulation.world import Finding, Run, Subject
from toolkeeper.testing.virtual import VirtualLoop, run


def play(schedule: Schedule, subject: Subject | None = None) -> Finding:
    """One run, from its seed alone."""

    async def main() -> Finding:
        this = Run(schedule, subject or Subject())
        try:
            await this.play()
            if not this.oracles.found:
                judge(this)
        finally:
            await this.stop()
        _unretrieved(this)
        return Finding(schedule, tuple(this.oracles.found), tuple(this.trace), this.incarnation)

    gc.disable()  # it costs a fifth of a run, and comes at a moment that the seed does not decide
    try:
        return run(main, seed=schedule.seed)
    finally:
        gc.enable()


def _unretrieved(this: Run) -> None:
    assert isinstance(this.loop, VirtualLoop)
    gc.collect(0)  # all that the run left behind: whatever failed in a ring of references says so now
    for failure in this.loop.failures:
        this.oracles.violated(5, f"nobody looked at: {failure}")


if __name__ == "__main__":
    sys.stdout.write(f"{play(schedules.draw(int(sys.argv[1])))}\n")
