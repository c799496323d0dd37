"""How much input is generated: less in the loop of somebody who edits, all of it in the whole suite."""

from __future__ import annotations

import hypothesis

QUICK, WHOLE = "quick", "whole"
SHARE = 5


def register() -> None:
    """Make both profiles known; `--hypothesis-profile=whole` chooses the other one."""
    # How long one example takes says nothing on a machine that others use as well.
    hypothesis.settings.register_profile(WHOLE, deadline=None)
    hypothesis.settings.register_profile(QUICK, deadline=None, max_examples=100 // SHARE)
    hypothesis.settings.load_profile(QUICK)


def whole() -> bool:
    """Whether this is the whole suite."""
    return hypothesis.settings.get_current_profile_name() == WHOLE


def examples(many: int) -> int:
    """The number of examples of a test that takes `many` in the whole suite."""
    return many if whole() else -(-many // SHARE)
