"""What a benchmark says: a table for people, and one JSON object as its last line."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1)]


def spread(values: Sequence[float]) -> str:
    """`median [smallest … largest]`."""
    return f"{median(values):.3f} [{min(values):.3f} … {max(values):.3f}]"


def report(title: str, rows: Mapping[str, str], figures: Mapping[str, object]) -> None:
    """Print both."""
    width = max(map(len, rows))
    load = os.getloadavg()[0]
    print(f"\n{title}  ({os.cpu_count()} CPUs, load {load:.1f})")
    for name, text in rows.items():
        print(f"  {name.ljust(width)}  {text}")
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}), flush=True)


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
