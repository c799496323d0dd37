"""Kubernetes quantities: `512Mi`, `1.5G`, `500m`."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

SUFFIXES = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
}


@lru_cache(maxsize=4096)
def amount(quantity: str) -> Decimal:
    """The number that a quantity (already matched against `mcpserver.Quantity`) stands for."""
    digits = quantity.rstrip("mkMGi")
    suffix = quantity[len(digits) :]
    return Decimal(digits) * (SUFFIXES[suffix] if suffix else 1)


def memory_bytes(quantity: str) -> int:
    """Whole bytes, rounded down."""
    return int(amount(quantity))


def nano_cpus(quantity: str) -> int:
    """Billionths of a CPU, rounded down."""
    return int(amount(quantity) * 10**9)
