"""What `up` draws on: a live table on a terminal, a line per change elsewhere, nothing for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from toolkeeper.cli.progress import Line, arrived, lines, names, tools, where
from toolkeeper.resources.mcpserver import MCPServer

_MARKS = {"ready": ("●", "green"), "busy": ("◌", "yellow"), "failed": ("✗", "red"), "idle": ("○", "dim")}


class Display(Protocol):
    """Where progress is shown. One whose reader went away is silent from then on."""

    def when_unread(self, tell: Callable[[], None]) -> None:
        """Have it told, from whatever thread, that nobody reads any more."""
        ...

    def hush(self) -> None: ...
    def say(self, text: str) -> None: ...
    def draw(self, lines: Sequence[Line], problems: Sequence[str]) -> None: ...
    def finish(self, servers: Sequence[MCPServer]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Console(Console):
    """Rich's own exits at a closed pipe, wherever it is, and what was begun stays."""

    tell: Callable[[], None] | None = None

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
        if self.tell is not None:
            self.tell()


def display(*, quiet: bool) -> Display:
    """The one that fits where output goes; progress of a quiet run goes to standard error."""
    console = _Console(stderr=quiet, highlight=False, soft_wrap=True)
    return _Table(console) if console.is_terminal and not quiet else _Log(console)


class _Log:
    """A line for each change."""

    def __init__(self, console: _Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}
        self._problems: frozenset[str] = frozenset()
        self._finished = ""

    def when_unread(self, tell: Callable[[], None]) -> None:
        self._console.tell = tell

    def hush(self) -> None:
        self._console.quiet = True

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def draw(self, lines: Sequence[Line], problems: Sequence[str]) -> None:
        for each in lines:
            # Percentages would be a line each: what matters in a log is the state.
            said = str(each) if each.mark != "busy" else f"{each.name}  {each.state}"
            if self._shown.get(each.name) != said:
                self._shown[each.name] = said
                self.say(f"{_MARKS[each.mark][0]} {each if each.mark != 'busy' else said}")
        for problem in sorted(set(problems) - self._problems, key=list(problems).index):
            self.say(f"✗ {problem}")
        self._problems = frozenset(problems)
        for gone in sorted(self._shown.keys() - {line.name for line in lines}):
            del self._shown[gone]
            self.say(f"{_MARKS['idle'][0]} {gone}  gone")

    def finish(self, servers: Sequence[MCPServer]) -> None:
        text = summary(servers)
        if text != self._finished:
            self._finished = text
            self.say(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Table(_Log):
    """A table that is drawn over itself."""

    def __init__(self, console: _Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=8)

    def draw(self, lines: Sequence[Line], problems: Sequence[str]) -> None:
        grid = Table.grid(padding=(0, 2))
        for each in lines:
            mark, style = _MARKS[each.mark]
            grid.add_row(Text(mark, style=style), each.name, Text(each.state, style=style), Text(each.detail))
        for problem in problems:
            grid.add_row(Text("✗", style="red"), "", Text("manifest", style="red"), Text(problem))
        self._live.update(grid)

    def finish(self, servers: Sequence[MCPServer]) -> None:
        pass  # the table says it already

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def summary(servers: Sequence[MCPServer]) -> str:
    """How many are ready, and each server's endpoint and tools, or what it waits for."""
    ready = sum(map(arrived, servers))
    called = names(servers)
    width = max(map(len, called), default=0)
    told = [
        f"{where(each)}  {tools(each)}" if arrived(each) else f"{line.state}  {line.detail}".rstrip()
        for each, line in zip(servers, lines(servers, ()), strict=True)
    ]
    rows = [f"  {name.ljust(width)}  {text}" for name, text in zip(called, told, strict=True)]
    return "\n".join((f"{ready} of {len(servers)} servers ready", *rows))
