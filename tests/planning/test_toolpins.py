"""What is said when a server's tools are not those of before."""

from __future__ import annotations

from toolkeeper.planning.toolpins import changed_tools


def test_tools_that_came_and_went_are_named() -> None:
    assert changed_tools(("a", "b"), ("b", "c", "d")) == "added: c, d; removed: a"


def test_a_long_list_is_cut() -> None:
    assert changed_tools((), tuple("abcdefgh")) == "added: a, b, c, d, e and 3 more"


def test_the_same_names_have_other_definitions() -> None:
    assert changed_tools(("a", "b"), ("a", "b")) == "its 2 tools have the same names and other definitions"
