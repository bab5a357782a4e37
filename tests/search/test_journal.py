"""The journal: a search killed anywhere goes on from its files, no finished trial repeated and none lost."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from medtrain.errors import ConfigError, CorruptArtifact, IdentityMismatch, TrainingError
from medtrain.search.journal import Event, Journal, Recorded
from medtrain.search.searcher import Suggestion
from medtrain.search.space import Values
from medtrain.storage import Store

SPACE = {"x": {"low": 0.0, "high": 1.0}, "n": {"low": 1, "high": 9, "int": True}}
ASYNCHRONOUS: dict[str, Any] = {"kind": "cmaes", "seed": 3}
GENERATIONAL = {**ASYNCHRONOUS, "timing": "generational"}
RANDOM = {"kind": "random", "seed": 3, "retries": 1, "reevaluate": 5}


class Killed(Exception):
    """The process ends here."""


def value(values: Values) -> float | None:
    """Least at x = 0.2, n = 4; a tenth of the trials has none."""
    return None if int(values["x"] * 1e6) % 10 == 0 else float((values["x"] - 0.2) ** 2 + abs(values["n"] - 4))


def opened(store: Store, searcher: dict[str, Any], dies_after: int | None = None) -> Recorded:
    """The study in a folder, whose process is killed when so many more events are written."""
    journal, left = Journal(store), [dies_after]

    def append(event: Event) -> None:
        if left[0] is not None and left[0] <= 0:
            raise Killed
        journal.append(event)
        if left[0] is not None:
            left[0] -= 1

    search = Recorded(searcher, SPACE, {}, append)
    search.replay(journal.read())
    return search


def run(search: Recorded, trials: int, finished: dict[int, int]) -> None:
    """Three at a time, until so many have ended; each end is counted when it has been written."""
    for suggestion in search.search.out:
        search.tell(suggestion.id, "lost")
    running = list[Suggestion]()
    while search.search.told < trials:
        while len(running) < 3 and (made := search.ask()) is not None:
            running.append(made)
        suggestion = running.pop(random.Random(len(search.events)).randrange(len(running)))
        found = value(suggestion.values)
        before = search.search.told
        search.tell(suggestion.id, "done" if found is not None else "failed", found)
        finished[suggestion.id] = finished.get(suggestion.id, 0) + search.search.told - before


@pytest.mark.parametrize(
    "searcher", [ASYNCHRONOUS, GENERATIONAL, RANDOM], ids=["asynchronous", "generational", "random"]
)
def test_killed_again_and_again_no_finished_trial_is_repeated_and_none_is_lost(
    store: Store, searcher: dict[str, Any]
) -> None:
    finished, draw, kills = dict[int, int](), random.Random(1), 0
    while True:
        search = opened(store, searcher, draw.randrange(1, 25))
        try:
            run(search, 60, finished)
            break
        except Killed:
            kills += 1
    told = [event for event in Journal(store).read() if event["event"] == "tell" and event["outcome"] != "lost"]
    retried = [event for event in told if event["outcome"] == "failed" and searcher.get("retries")]
    assert kills >= 5 and set(finished.values()) == {1} and len(finished) == 60
    assert len(told) - 60 <= len(retried)
    # What was asked after a kill and what was asked before are one search.
    again = opened(store, searcher)
    assert again.search.told == 60 and again.search.best == search.search.best
    assert {suggestion.id for suggestion in again.search.out} == {suggestion.id for suggestion in search.search.out}


def test_by_generations_kills_leave_no_trace(tmp_path: Any) -> None:
    """Whatever the order of ends, the same distribution."""
    found = []
    for kills in (False, True):
        store, finished, draw = Store(str(tmp_path / str(kills))), dict[int, int](), random.Random(2)
        while True:
            search = opened(store, GENERATIONAL, draw.randrange(1, 20) if kills else None)
            try:
                run(search, 64, finished)
                break
            except Killed:
                continue
        inner: Any = search.search
        found.append((inner._search.told, inner._search.mean, inner._search.sigma, inner.best))
    assert found[0] == found[1]


def test_the_order_of_ends_replayed_gives_the_same_distribution(store: Store, tmp_path: Path) -> None:
    search = opened(store, ASYNCHRONOUS)
    run(search, 60, {})
    copy = shutil.copytree(store.local(), tmp_path / "copy")
    again, inner = opened(Store(str(copy)), ASYNCHRONOUS), search.search
    other = again.search
    assert [again.ask() for _ in range(5)] == [search.ask() for _ in range(5)]
    assert other._search.mean == inner._search.mean  # type: ignore[attr-defined]
    assert other._search.sigma == inner._search.sigma  # type: ignore[attr-defined]


def test_a_last_event_that_was_cut_was_not_written(store: Store) -> None:
    search = opened(store, ASYNCHRONOUS)
    run(search, 10, {})
    events, names = Journal(store).read(), store.files()
    store.write(names[-1], store.read(names[-1])[:-5])
    journal = Journal(store)
    assert journal.read() == events[:-1]
    journal.append(events[-1])
    assert Journal(store).read() == events
    store.write(names[3], b"{")
    with pytest.raises(CorruptArtifact, match=r"00000003\.json is absent or cut"):
        Journal(store).read()
    store.delete(names[3])
    with pytest.raises(CorruptArtifact, match=r"00000003\.json is absent or cut"):
        Journal(store).read()


def test_an_event_that_another_process_wrote_is_not_written_over(store: Store) -> None:
    one, other = opened(store, ASYNCHRONOUS), opened(store, ASYNCHRONOUS)
    made = other.ask()
    assert made is not None
    other.tell(made.id, "done", 1.0)
    with pytest.raises(ConfigError, match=r"00000000\.json is there already, as another submission writes"):
        one.ask()
    assert [event["event"] for event in Journal(store).read()] == ["begin", "ask", "tell"]


def test_an_end_says_whether_it_was_one(store: Store) -> None:
    search = opened(store, {**RANDOM, "reevaluate": 0})
    made = search.ask()
    assert made is not None
    for outcome, again in (("lost", True), ("failed", True), ("failed", False)):
        assert search.tell(made.id, outcome).get("again", False) == again  # type: ignore[arg-type]
        assert (search.ask() == made) == again
    assert [event.get("again", False) for event in Journal(store).read() if event["event"] == "tell"] == [
        True,
        True,
        False,
    ]


def test_the_journal_of_another_search_is_refused(store: Store) -> None:
    run(opened(store, ASYNCHRONOUS), 10, {})
    events = Journal(store).read()
    assert all(json.dumps(event, allow_nan=False) for event in events)
    for searcher, space, base in (
        ({**ASYNCHRONOUS, "seed": 4}, SPACE, {}),
        (ASYNCHRONOUS, {**SPACE, "n": {"low": 1, "high": 8, "int": True}}, {}),
        (ASYNCHRONOUS, SPACE, {"x": 0.1}),
        (RANDOM, SPACE, {}),
    ):
        with pytest.raises(IdentityMismatch, match="begin anew under another name"):
            Recorded(searcher, space, base).replay(events)
    events[0]["made_by"]["versions"]["cma"] = "4.4.0"
    with pytest.raises(IdentityMismatch, match=r"4\.4\.0"):
        Recorded(ASYNCHRONOUS, SPACE, {}).replay(events)


def test_what_was_handed_out_counts_to_the_last_bit_and_another_suggestion_is_refused(store: Store) -> None:
    search = opened(store, ASYNCHRONOUS)
    asked = [search.ask() for _ in range(3)]
    events = Journal(store).read()
    assert asked[2] is not None and events[3]["values"] == asked[2].values
    events[3]["values"]["x"] += 1e-12
    again = Recorded(ASYNCHRONOUS, SPACE, {})
    again.replay(events)
    for suggestion in again.search.out:
        again.tell(suggestion.id, "lost")
    handed = [again.ask() for _ in range(3)]
    assert handed[2] is not None and handed[2].values == events[3]["values"] != asked[2].values
    for suggestion in again.search.out:
        again.tell(suggestion.id, "done", float(suggestion.id))
    assert again.search.ranked[2].values == events[3]["values"], "what counts is what was tried"
    events[3]["values"]["x"] += 1e-3
    with pytest.raises(IdentityMismatch, match="event 3 suggests"):
        Recorded(ASYNCHRONOUS, SPACE, {}).replay(events)


@pytest.mark.parametrize("searcher", [ASYNCHRONOUS, GENERATIONAL], ids=["asynchronous", "generational"])
def test_a_search_whose_trials_all_failed_goes_on_when_the_cause_is_mended(
    store: Store, searcher: dict[str, Any]
) -> None:
    search = opened(store, searcher)
    with pytest.raises(TrainingError, match="see why they fail"):
        for _ in range(50):
            made = search.ask()
            assert made is not None
            search.tell(made.id, "failed")
    again = opened(store, searcher)
    run(again, search.search.told + 20, {})
    assert again.search.best is not None
