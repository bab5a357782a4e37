"""A search's journal: every call in its order, as JSON, which rebuilds the search; no pickle is read.

One event is one file, `00000012.json`: on a disk and in an object store alike it is whole or absent, but for the last
one of a killed process, which is then as if it had not been written. A suggestion is handed out after its event is
written, and what is learned from a value is nowhere seen before its event is.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

from medtrain.config import fingerprint, identity
from medtrain.errors import ConfigError, CorruptArtifact, IdentityMismatch
from medtrain.search import searchers
from medtrain.search.searcher import Outcome, Searcher, Suggestion
from medtrain.search.space import Space, Values
from medtrain.storage import Store

Event = dict[str, Any]
CLOSE = 1e-6
"""How far, of each range, another machine's rounding may carry a suggestion that a journal has otherwise."""


class Journal:
    """Events in a folder; one writer at a time."""

    def __init__(self, store: Store):
        self._store = store
        self._count = 0

    def read(self) -> list[Event]:
        """Every event; from here on it is appended after them.

        Raises:
            CorruptArtifact: one that is not the last is absent or cut.
        """
        events: list[Event] = []
        names = self._store.files()
        for number, name in enumerate(names):
            event = _parsed(self._store.read(name))
            if name != _name(number) or (event is None and number + 1 < len(names)):
                raise CorruptArtifact(
                    f"journal {self._store.root}: {_name(number)} is absent or cut and later events are there; "
                    "bring it back, or begin the study anew under another name"
                )
            if event is not None:
                events.append(event)
        self._count = len(events)
        return events

    def check(self) -> None:
        """See that nobody else has written meanwhile.

        Raises:
            ConfigError: another submission has.
        """
        name = _name(self._count)
        if self._store.exists(name) and _parsed(self._store.read(name)) is not None:
            raise ConfigError(
                f"journal {self._store.root}: {name} is there already, as another submission writes this study; end "
                "the other one, or let it go on alone: what this one has not written is handed out again"
            )

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            ConfigError: another submission writes this journal.
        """
        self.check()
        self._store.write(_name(self._count), json.dumps(event, allow_nan=False, ensure_ascii=False).encode("utf-8"))
        self._count += 1


class Recorded:
    """A search whose calls are recorded.

    Args:
        searcher: its settings, by `kind`.
        space: the parameters.
        base: the config that suggestions override.
        append: where events go besides `events`.
    """

    def __init__(
        self,
        searcher: Mapping[str, Any],
        space: Mapping[str, Any],
        base: Mapping[str, Any],
        append: Callable[[Event], None] = lambda event: None,
    ):
        self._given = (dict(searcher), dict(space), dict(base))
        self.space = Space(space)
        self.search: Searcher = searchers.make(searcher, self.space, base)
        self.events: list[Event] = []
        self._append = append

    def ask(self) -> Suggestion | None:
        """As the searcher's; also a suggestion that a journal has and this machine would round otherwise."""
        made = self.search.ask()
        if made is None:
            return None
        self._write({"event": "ask", "id": made.id, "values": made.values, "repeat": made.repeat})
        return made

    def tell(
        self, id: int, outcome: Outcome, value: float | None = None, known: bool = False, error: str = ""
    ) -> Event:
        """As the searcher's; an end after which the search cannot go on is not written: the trial is tried again.

        Args:
            id: the suggestion's.
            outcome: how its trial ended.
            value: its value.
            known: whether the trial had ended before, and was suggested once more.
            error: why, where no trial's folder says it.

        Returns:
            What was written; `again` in it says that the suggestion will come again.
        """
        ended = self.search.tell(id, outcome, value)
        event: Event = {"event": "tell", "id": id, "outcome": outcome, "value": _finite(value)}
        said: Event = {"again": not ended, "known": known, "error": error}
        event |= {name: what for name, what in said.items() if what}
        self._write(event)
        return event

    def add(self, values: Values, outcome: Outcome, value: float | None = None, counts: bool = True) -> None:
        """As the searcher's."""
        self.search.add(values, outcome, value, counts)
        event: Event = {"event": "add", "values": values, "outcome": outcome, "value": _finite(value)}
        self._write(event if counts else {**event, "counts": False})

    @property
    def out(self) -> tuple[Suggestion, ...]:
        """Suggestions that have no outcome yet, as they were handed out."""
        return self.search.out

    def replay(self, events: Iterable[Event]) -> None:
        """Do again what a journal says, on a search that has done nothing yet; nothing is written but a first event.

        Raises:
            IdentityMismatch: the journal is of another search, of other versions, or of a machine that computes too
                differently.
        """
        assert not self.events, "has done something already"
        own = {"event": "begin", "made_by": self._made_by()}
        for number, event in enumerate(events):
            if number == 0 and event != own:
                raise IdentityMismatch(
                    f"journal: it was made by {event.get('made_by')} and this is {own['made_by']}; go on with its "
                    "searcher, space, base config and versions, or begin anew under another name"
                )
            self.events.append(event)
            self._redo(number, event)

    def _redo(self, number: int, event: Event) -> None:
        if event["event"] == "ask":
            made = self.search.ask()
            if made is None or made.id != event["id"] or not self._is_close(made.values, event["values"]):
                raise IdentityMismatch(
                    f"journal: event {number} suggests {event['values']} and this search {made and made.values}; "
                    "go on where it was written, or begin anew under another name"
                )
            self.search.handed(made.id, event["values"], event["repeat"])
        elif event["event"] == "tell":
            self.search.tell(event["id"], event["outcome"], event["value"])
        elif event["event"] == "add":
            self.search.add(event["values"], event["outcome"], event["value"], event.get("counts", True))

    def _is_close(self, one: Values, other: Values) -> bool:
        pairs = zip(self.space.point(one), self.space.point(other), strict=True)
        return all(abs(mine - theirs) <= CLOSE for mine, theirs in pairs)

    def anew(self) -> "Recorded":
        """The same search with nothing done."""
        return Recorded(*self._given, append=self._append)

    def _made_by(self) -> dict[str, Any]:
        searcher, _, base = self._given
        start = self.space.start(base, {})
        known = {"searcher": identity(searchers.validate(searcher)), "space": self.space.fingerprint, "start": start}
        libraries = ("cma", "numpy", *(["optuna"] if searcher.get("kind") == "optuna" else []))
        return {"fingerprint": fingerprint(known), "versions": {name: version(name) for name in libraries}}

    def _write(self, event: Event) -> None:
        if not self.events:
            self._put({"event": "begin", "made_by": self._made_by()})
        self._put(event)

    def _put(self, event: Event) -> None:
        self._append(event)
        self.events.append(event)


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _parsed(content: bytes) -> Event | None:
    try:
        event = json.loads(content)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
