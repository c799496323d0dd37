"""Everything the node knows, by container; from it every `state` is read.

Others write it (the observer what was seen, the works what is being done, the prober what answered); the ledger decides
what changed, and only a change is a new revision. Ages are computed when read and never are a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from toolkeeper import __version__
from toolkeeper.clock import Clock
from toolkeeper.node.encoding import around_age, around_containers, joined
from toolkeeper.node.entry import Entry, Failure, Probed, Work, compose, is_coming, presses, run_of, values_of
from toolkeeper.node.features import PROBE_CREDENTIALS
from toolkeeper.node.masking import Mask
from toolkeeper.node.notebook import Notebook, Page
from toolkeeper.node.revisions import Revisions
from toolkeeper.node.runtime import Capacity, Seen, Sight
from toolkeeper.planning.observed import Container, Snapshot
from toolkeeper.reconcile.ports import ProbeCredential

MOST_SHOWN = 16
"""Values of former credentials that are still masked: a token may be rotated every few minutes, for years."""
Listener = Callable[[Entry], None]
"""Told after every change of an entry, also of its disappearance (`view` is None then)."""


class Ledger:
    """The state of one node. Everything happens on the event loop; nothing here waits."""

    def __init__(self, *, clock: Clock, notebook: Notebook, revisions: Revisions) -> None:
        self._clock = clock
        self._notebook = notebook
        self._pages = notebook.pages()
        self.revisions = revisions
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, dict[str, Entry]] = {}
        self.looks = 0
        """How many looks at the runtime have begun."""
        self._applied: dict[str, int] = {}
        self._unmarked = 0
        self._volumes: Mapping[str, tuple[str, ...]] = {}
        self._trouble = "nothing has been looked at yet"
        self._listeners: list[Listener] = []
        self._heads: dict[str, tuple[str, tuple[bytes, bytes]]] = {}
        self.runtime: Literal["docker", "process"] = "process"
        self.features: tuple[str, ...] = ()
        self.capacity = Capacity(0, 0)

    # What others ask

    def get(self, name: str) -> Entry | None:
        """The entry of that name, if the node knows anything about it."""
        return self._entries.get(name)

    def entries(self, installation: str | None = None) -> list[Entry]:
        """All entries (of an installation), by name."""
        known = self._entries if installation is None else self._names.get(installation, {})
        return [known[name] for name in sorted(known)]

    @property
    def runtime_ok(self) -> bool:
        """Whether the runtime answered last time."""
        return not self._trouble

    @property
    def trouble(self) -> str:
        """Why the runtime does not answer; empty when it does."""
        return self._trouble

    def listen(self, listener: Listener) -> None:
        """Call it after every change."""
        self._listeners.append(listener)

    def state(self, installation: str, epoch: int) -> bytes:
        """The snapshot of an installation, as JSON. Costs a concatenation while nothing changes but ages."""
        head = self._head(installation, epoch)
        if self._trouble:
            return joined(head, ())
        now = self._clock.monotonic()
        shown = (entry for entry in self.entries(installation) if entry.view is not None)
        return joined(head, ((self._pieces(entry), entry.age(now)) for entry in shown))

    def counts(self) -> Mapping[str, int]:
        """State → number of containers, for metrics."""
        counts: dict[str, int] = {}
        for entry in self._entries.values():
            if entry.view is not None:
                counts[entry.view.state] = counts.get(entry.view.state, 0) + 1
        return counts

    # What others saw

    def look_begins(self) -> int:
        """Before asking the runtime: the number that goes with the answer, so that a late one does not undo a newer."""
        self.looks += 1
        return self.looks

    def saw_since(self, name: str, look: int) -> bool:
        """Whether a look at that container that began after the look of that number has been told."""
        return self._applied.get(name, 0) > look

    def host(
        self, runtime: Literal["docker", "process"], features: Iterable[str], capacity: Capacity
    ) -> None:
        """What the runtime is and enforces now, beside what every node does; a firewall that is gone takes its features
        along."""
        facts = (runtime, tuple(sorted({*features, PROBE_CREDENTIALS})), capacity)
        if facts != (self.runtime, self.features, self.capacity):
            self.runtime, self.features, self.capacity = facts
            self.revisions.bump_all()

    def saw(self, sight: Sight, look: int) -> None:
        """Everything was seen, by a look that began as `look`."""
        first = bool(self._trouble)
        self._trouble = ""
        for name in sorted(self._entries.keys() | sight.containers.keys()):
            self.saw_one(name, sight.containers.get(name), look)
        self._applied = {name: at for name, at in self._applied.items() if at > look}
        while self._pages:
            self._notebook.forget(self._pages.popitem()[0])
        shared = (sight.unmarked, sight.volumes)
        if first or shared != (self._unmarked, self._volumes):
            self._unmarked, self._volumes = shared
            self.revisions.bump_all()

    def saw_one(self, name: str, seen: Seen | None, look: int) -> None:
        """One container was seen (None: is absent), by a look that began as `look`."""
        if look < self._applied.get(name, 0):
            return
        self._applied[name] = look
        entry = self._entries.get(name)
        if entry is None:
            if seen is None:
                return
            entry = self._new(name, seen.container.installation)
        before, entry.seen = entry.seen, seen
        if (before is None) != (seen is None) and len(self._names) > 1:
            self.revisions.bump_all()  # for the others it is one foreign container more, or less
        if before is not None and seen is not None and _is_another(seen, before):
            entry.credential = None  # it was for the one before, whoever made this one
        if seen is not None:
            self._date(entry, seen, before)
            _hide(entry, secrets=seen.secrets)
            self._adopt_page(entry, seen.container)
            if seen.container.state == "running" and entry.work is None:
                entry.failure = None
        self._refresh(entry)

    def runtime_is_down(self, message: str) -> None:
        """The runtime does not answer: nothing is known about any container, until it was looked at again."""
        if self._trouble != message:
            self._trouble = message
            self.revisions.bump_all()

    # What is being done

    def work_begins(self, name: str, work: Work, *, secrets: Iterable[str] = ()) -> None:
        """Work on a container was taken on."""
        entry = self._entries.get(name) or self._new(name, work.sketch.installation)
        _hide(entry, secrets=secrets)
        entry.work, entry.failure = work, None
        self._refresh(entry)

    def work_advances(self, name: str, work: Work) -> None:
        """The same work, further on."""
        entry = self._entries.get(name)
        if entry is not None and entry.work is not None:
            entry.work = work
            self._refresh(entry)

    def work_ends(self, name: str, failure: Failure | None) -> None:
        """The work is over; whoever did it has told what it looks like now before."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.work, entry.failure = None, failure
            self._refresh(entry)

    # What answered

    def probed(self, name: str, run: str, page: Page, failures: int) -> None:
        """A probe of that run came out. Ignored when the container has moved on meanwhile."""
        entry = self._entries.get(name)
        if entry is None or entry.seen is None or run_of(entry.seen.container) != run:
            return
        probed = Probed(run, page.handshake, failures)
        if page.handshake.ok and page != entry.page:
            entry.page = page
            self._notebook.keep_page(name, page)
        if probed != entry.probed:
            entry.probed = probed
            self._refresh(entry)

    def lend(self, entry: Entry, credential: ProbeCredential | None) -> None:
        """What probes of that container show from now on; what it answered to another one stays until they ask."""
        if credential != entry.credential:
            if credential is not None:
                _hide(entry, shown=values_of(credential))
            entry.credential = credential
            self._refresh(entry)

    # How it is kept

    def _new(self, name: str, installation: str) -> Entry:
        entry = Entry(name, installation)
        self._entries[name] = entry
        self._names.setdefault(installation, {})[name] = entry
        return entry

    def _date(self, entry: Entry, seen: Seen, before: Seen | None) -> None:
        if before is None or before.since != seen.since:
            elapsed = self._clock.now().timestamp() - seen.since if seen.since is not None else 0.0
            entry.began = self._clock.monotonic() - max(0.0, elapsed)

    def _adopt_page(self, entry: Entry, container: Container) -> None:
        """After a restart of the agent: what this very run answered the agent before us."""
        page = self._pages.pop(entry.name, None)
        if page is None:
            return
        entry.page = page
        if page.run_id == run_of(container):
            entry.probed = Probed(page.run_id, page.handshake)

    def _refresh(self, entry: Entry) -> None:
        before, entry.view = entry.view, compose(entry)
        if entry.seen is None and entry.work is None and entry.failure is None:
            self._forget(entry)
        if entry.view != before:
            entry.pieces = None
            known = self._names.get(entry.installation, {})
            more = any(is_coming(each) for each in known.values() if each is not entry)
            self.revisions.bump(entry.installation, pressing=presses(before, entry.view, more_to_come=more))
            for listener in self._listeners:
                listener(entry)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.name]
        del self._names[entry.installation][entry.name]
        if not self._names[entry.installation]:
            del self._names[entry.installation]
        if entry.page is not None:
            self._notebook.forget(entry.name)

    def _pieces(self, entry: Entry) -> tuple[bytes, bytes]:
        if entry.pieces is None:
            assert entry.view is not None
            entry.pieces = around_age(entry.view)
        return entry.pieces

    def _head(self, installation: str, epoch: int) -> tuple[bytes, bytes]:
        revision = self.revisions.current(installation)
        key = f"{revision} {epoch}"
        known = self._heads.get(installation)
        if known is not None and known[0] == key:
            return known[1]
        theirs = self._names.get(installation, {})
        others = sum(
            1 for entry in self._entries.values() if entry.seen is not None and entry.name not in theirs
        )
        empty = Snapshot(
            revision=revision,
            runtime=self.runtime,
            runtime_ok=self.runtime_ok,
            runtime_message=self._trouble[:2048],
            agent_version=__version__,
            features=self.features,
            foreign=self._unmarked + others,
            capacity_memory=self.capacity.memory,
            capacity_nano_cpus=self.capacity.nano_cpus,
            epoch=epoch,
            volumes=self._volumes.get(installation, ()),
        )
        head = around_containers(empty)
        if theirs:  # names of installations come from outside; only those that exist are worth remembering
            self._heads[installation] = (key, head)
        return head


def _hide(entry: Entry, *, secrets: Iterable[str] = (), shown: Iterable[str] = ()) -> None:
    """Mask these values from now on."""
    entry.secrets = entry.secrets.union(secrets)
    entry.shown = tuple(dict.fromkeys((*shown, *entry.shown)))[:MOST_SHOWN]
    values = entry.secrets.union(entry.shown)
    if values != entry.mask.values:
        entry.mask = Mask(values)


def _is_another(seen: Seen, before: Seen) -> bool:
    return seen.container.container_id != before.container.container_id
