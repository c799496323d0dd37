"""How long does `toolkeeper --help` take? Beside it, Python starting and doing nothing, in turn."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import figures
from benchmarks.rig.plane import PROGRAM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()
    ours, nothing = [PROGRAM, "--help"], [sys.executable, "-c", "pass"]
    for each in (ours, nothing):
        seconds(each)  # into the file cache
    pairs = [(seconds(ours), seconds(nothing)) for _ in range(options.runs)]
    helps, starts = zip(*pairs, strict=True)
    rows = {
        "toolkeeper --help": f"{figures.spread(helps)} s",
        "python -c pass": f"{figures.spread(starts)} s",
    }
    report = {
        "help_s": figures.median(helps),
        "python_s": figures.median(starts),
        "ratio_to_python": figures.median(helps) / figures.median(starts),
        "runs": len(pairs),
    }
    figures.report(f"Starting, {len(pairs)} runs each, in turn", rows, report)


def seconds(command: Sequence[str]) -> float:
    """What it takes until it has ended. Raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
