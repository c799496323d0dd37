"""Log lines and multiplexed streams, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.node.docker.streams import LONGEST_LINE, Frames, Lines, lines_of


def frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4) + content


def pieces(whole: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    yield from (whole[a:b] for a, b in pairwise(places))


@given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=40))), st.lists(st.integers(0, 400)))
def test_frames_come_out_as_they_went_in_wherever_they_were_cut(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    frames = Frames()
    whole = b"".join(frame(*each) for each in sent)
    assert [got for piece in pieces(whole, cuts) for got in frames.feed(piece)] == sent


@given(st.lists(st.text("ab é", max_size=20)), st.lists(st.integers(0, 400)))
def test_lines_come_out_as_they_went_in_wherever_they_were_cut(sent: list[str], cuts: list[int]) -> None:
    whole = "".join(f"{line}\n" for line in sent).encode()
    assert lines_of(pieces(whole, cuts)) == sent


def test_a_line_without_an_end_comes_last() -> None:
    assert lines_of([b"one\ntw", b"o"]) == ["one", "two"]


def test_a_line_is_cut_short_not_in_two() -> None:
    lines = Lines()
    for _ in range(100):
        assert list(lines.feed(b"x" * 1000)) == []
    assert list(lines.feed(b"\nnext\n")) == ["x" * LONGEST_LINE, "next"]


def test_bytes_that_are_no_text_do_not_break_a_line() -> None:
    assert lines_of([b"\xff\xfe ok\r\n"]) == ["\ufffd\ufffd ok"]
