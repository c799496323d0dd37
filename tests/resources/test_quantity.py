"""Quantities: exact, bounded, and printed as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.errors import Invalid
from toolkeeper.resources.quantity import LARGEST, memory_bytes, nano_cpus, print_cpus, print_memory


@pytest.mark.parametrize(
    ("quantity", "count"),
    [
        ("0", 0), ("512Mi", 512 * 2**20), ("1.5Gi", 3 * 2**29), ("1k", 1000), ("2M", 2_000_000), ("1G", 10**9),
        ("1Ki", 1024), ("1.001", 1), ("128974848", 128974848),
    ],
)  # fmt: skip
def test_reads_memory_as_kubernetes_does(quantity: str, count: int) -> None:
    assert memory_bytes(quantity) == count


@pytest.mark.parametrize(
    ("quantity", "nanos"),
    [("1", 10**9), ("500m", 5 * 10**8), ("0.001", 10**6), ("1.5", 15 * 10**8), ("10m", 10**7)],
)
def test_reads_cpus_as_kubernetes_does(quantity: str, nanos: int) -> None:
    assert nano_cpus(quantity) == nanos


@pytest.mark.parametrize(
    "quantity", ["", "Mi", "1 Mi", "-1", "1e3", "1Mb", "0x10", "1.2345", "9" * 17, "9" * 16 + "Gi", "١"]
)
def test_refuses_what_is_no_quantity_or_too_large(quantity: str) -> None:
    with pytest.raises(Invalid):
        memory_bytes(quantity)
    with pytest.raises(Invalid):
        nano_cpus(quantity)


@given(st.integers(0, LARGEST // 2**30))
def test_prints_memory_so_that_it_reads_back_the_same(count: int) -> None:
    assert memory_bytes(print_memory(count)) == count


@given(st.integers(0, 10**6))
def test_prints_cpus_so_that_they_read_back_the_same(thousandths: int) -> None:
    assert nano_cpus(print_cpus(thousandths * 10**6)) == thousandths * 10**6


def test_prints_the_shortest_form() -> None:
    assert [print_memory(each) for each in (0, 1023, 512 * 2**20, 2**30, 1_500_000_000, 1000)] == [
        "0", "1023", "512Mi", "1Gi", "1500M", "1k",
    ]  # fmt: skip
    assert [print_cpus(each) for each in (0, 10**9, 5 * 10**8, 15 * 10**8)] == ["0", "1", "500m", "1500m"]
