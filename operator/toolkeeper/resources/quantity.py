"""Kubernetes quantities: `512Mi`, `1.5G`, `500m`; to whole bytes and billionths of a CPU, and back."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from toolkeeper.errors import Invalid

SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
}
QUANTITY = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,3})?)(|[mkMG]|[KMG]i)")
LARGEST = 2**63 - 1
"""What Kubernetes, Docker and SQLite can hold."""


@lru_cache(maxsize=4096)
def amount(quantity: str) -> Decimal:
    """The number that a quantity stands for. Raises Invalid for anything else."""
    found = QUANTITY.fullmatch(quantity)
    if found is None:
        raise Invalid(f"{quantity[:40]!r} is no quantity; write it like 512Mi or 500m")
    return Decimal(found[1]) * SUFFIXES[found[2]]


def memory_bytes(quantity: str) -> int:
    """Whole bytes, rounded down. Raises Invalid for what is no quantity or too large."""
    return _bounded(amount(quantity), quantity)


def nano_cpus(quantity: str) -> int:
    """Billionths of a CPU, rounded down. Raises Invalid for what is no quantity or too large."""
    return _bounded(amount(quantity) * 10**9, quantity)


def print_memory(count: int) -> str:
    """The shortest exact quantity of that many bytes: `512Mi`, `1500M`, `1023`."""
    for suffix in ("Gi", "G", "Mi", "M", "Ki", "k"):
        whole, rest = divmod(count, int(SUFFIXES[suffix]))
        if whole and not rest:
            return f"{whole}{suffix}"
    return str(count)


def print_cpus(nanos: int) -> str:
    """CPUs as a quantity, to the thousandth: `2`, `500m`."""
    whole, rest = divmod(nanos // 10**6, 1000)
    return str(whole) if not rest else f"{nanos // 10**6}m"


def _bounded(number: Decimal, quantity: str) -> int:
    if number > LARGEST:
        raise Invalid(f"{quantity} is too large")
    return int(number)
