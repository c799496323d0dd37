"""Playing one schedule in virtual time: `python -m simulation.play SEED` prints what happened."""

from __future__ import annotations

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

    return run(main, seed=schedule.seed)


def _unretrieved(this: Run) -> None:
    assert isinstance(this.loop, VirtualLoop)
    for failure in this.loop.failures:
        this.oracles.violated(5, f"nobody looked at: {failure}")


if __name__ == "__main__":
    sys.stdout.write(f"{play(schedules.draw(int(sys.argv[1])))}\n")
