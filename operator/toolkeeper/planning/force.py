"""What to tell whoever wants a deleted object to go without cleaning, and does not say it in the one way there is."""

from __future__ import annotations

from toolkeeper.resources.meta import FORCE_DELETE, Metadata

LONGEST = 40


def misspelt(metadata: Metadata) -> str:
    """The end of a sentence about its deletion: that what the annotation says means nothing. Empty when all is well."""
    said = metadata.annotations.get(FORCE_DELETE)
    if said is None or metadata.given_up:
        return ""
    return f"; {FORCE_DELETE}={said[:LONGEST]!r} means nothing, only 'true' does"
