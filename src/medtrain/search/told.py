"""What a study has learned: its trials with their outcomes, read from its journal and their folders."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from medtrain.search import cadence, trial
from medtrain.search.cadence import Cadence
from medtrain.search.journal import Event, Journal
from medtrain.search.searcher import Outcome, Suggestion
from medtrain.search.space import Values
from medtrain.search.trial import Attempt, Order
from medtrain.storage import Store

JOURNAL = "journal"


@dataclass(frozen=True)
class Told:
    """A trial with an outcome; times in seconds, `began` since 1970, `order` that of completion, from 0."""

    id: int
    values: Values
    outcome: Outcome
    value: float | None
    seconds: float
    attempts: int
    began: float
    order: int
    metrics: dict[str, Any] = field(default_factory=dict)
    number: str = ""
    """The name of the trial's folder; none for a setting that made no config."""
    beside: dict[str, Any] = field(default_factory=dict)
    """What stands beside its numbers, see `trial.BESIDE`."""
    error: str = ""
    """Why it failed, or what its last attempt said as it ended; a line or more."""


@dataclass
class Past:
    """A study's trials so far."""

    store: Store
    """The study's folder."""
    told: list[Told] = field(default_factory=list)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """Of every trial that has ended or that an earlier submission began, by its folder's name."""
    orders: dict[str, Order] = field(default_factory=dict)
    """Trials as they were handed out, without their identity, by their folder's name."""
    losses: dict[int, int] = field(default_factory=dict)
    """How often a suggestion's trial was lost."""
    failures: dict[int, int] = field(default_factory=dict)
    """How often it failed."""

    def tell(self, made: Suggestion, outcome: Outcome, value: float | None, number: str = "") -> Told | None:
        """Take in an outcome; none where the trial was lost, which is no end."""
        if outcome == "lost":
            self.losses[made.id] = self.losses.get(made.id, 0) + 1
            return None
        self.failures[made.id] = self.failures.get(made.id, 0) + (outcome == "failed")
        ran = self.attempts.get(number, [])
        found = trial.facts(self.store, number) if number else None
        told = Told(
            id=made.id,
            values=made.values,
            outcome=outcome,
            value=value,
            seconds=trial.seconds(ran),
            attempts=len(ran),
            began=ran[0].began if ran else time.time(),
            order=len(self.told),
            metrics=found["metrics"] if found else {},
            number=number,
            beside={name: found[name] for name in trial.BESIDE if name in found} if found else {},
            error=ran[-1].error if ran else "",
        )
        self.told.append(told)
        return told


def recall(store: Store, events: Iterable[Event]) -> Past:
    """What a journal and the trials' folders say.

    Args:
        store: the study's folder.
        events: its journal.
    """
    past, numbers = Past(store), dict[str, str]()
    for number in store.folders(trial.KIND):
        past.attempts[number] = trial.attempts(store, number)
        order = trial.about(store, number)
        if order is None:
            continue
        past.orders[number], key = order, _key(order.values, order.repeat)
        if key not in numbers or trial.facts(store, number) is not None:
            numbers[key] = number
    asked: dict[int, Suggestion] = {}
    for event in events:
        if event["event"] == "ask":
            asked[event["id"]] = Suggestion(event["id"], event["values"], event["repeat"])
        elif event["event"] == "tell":
            made = asked[event["id"]]
            past.tell(made, event["outcome"], event["value"], numbers.get(_key(made.values, made.repeat), ""))
    return past


def read(store: Store) -> list[Told]:
    """A study's trials with an outcome, in the order of completion; `store` is its folder."""
    return recall(store, Journal(store.sub(JOURNAL)).read()).told


def rhythm(told: Iterable[Told], attempts: Mapping[str, list[Attempt]]) -> Cadence | None:
    """How often checkpoints are due; None before a trial has said what one takes.

    Preemptions are attempts that were lost with their process or node, and workers that a trial lost by itself: each
    attempt starts them once, every start beyond that replaces lost ones.

    Args:
        told: trials with an outcome.
        attempts: of every trial, by its folder's name.
    """
    ended = list(told)
    costs, steps = ([one.beside[name] for one in ended if one.beside.get(name)] for name in ("checkpoint_s", "step_s"))
    if not costs:
        return None
    every = [one for ran in attempts.values() for one in ran]
    lost = sum(one.how == "lost" for one in every)
    inside = sum(max(0, one.beside["groups"] - one.attempts) for one in ended if "groups" in one.beside)
    return cadence.observed(median(costs), lost + inside, trial.seconds(every), median(steps) if steps else None)


def _key(values: Values, repeat: int) -> str:
    return json.dumps([values, repeat], sort_keys=True)
