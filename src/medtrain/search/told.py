"""What a study has learned: its trials with their outcomes, read from its journal and their folders."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from medtrain.search import cadence, trial
from medtrain.search.cadence import Cadence
from medtrain.search.journal import Event, Journal
from medtrain.search.searcher import Best, Outcome, Suggestion, setting
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
    """Each trial once, or once more where it failed and was run afresh."""
    ended: dict[str, Told] = field(default_factory=dict)
    """The last of them of each trial, by its folder's name."""
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """Of every trial that has ended or that an earlier submission began, by its folder's name."""
    orders: dict[str, Order] = field(default_factory=dict)
    """Trials as they were handed out, without their identity, by their folder's name."""
    losses: dict[int, int] = field(default_factory=dict)
    """How often a suggestion's trial was lost."""
    failures: dict[str, int] = field(default_factory=dict)
    """How many of a trial's attempts the search knows to have failed, by the trial's folder."""

    def tell(self, made: Suggestion, event: Event, number: str = "") -> Told | None:
        """Take in an outcome, as the journal has it.

        Returns:
            None where it is no new end: the trial will come again, or had ended and was suggested once more.
        """
        if event.get("known"):
            return None
        if event["outcome"] == "lost":
            self.losses[made.id] = self.losses.get(made.id, 0) + 1
            return None
        if event["outcome"] == "failed" and number:
            self.failures[number] = self.failures.get(number, 0) + 1
        if event.get("again"):
            return None
        told = self._row(made, event, number)
        self.told.append(told)
        if number:
            self.ended[number] = told
        return told

    def before(self, made: Suggestion, number: str, metric: str) -> tuple[Outcome, float | None, bool] | None:
        """How a trial that is suggested has ended before, and whether the search was told of it then.

        Args:
            made: the suggestion.
            number: the trial's folder.
            metric: the study's.

        Returns:
            None where it is to be run, or to be gone on with.
        """
        known, found, ran = self.ended.get(number), trial.facts(self.store, number), trial.attempts(self.store, number)
        is_forgiven = bool(ran) and ran[-1].how == "killed"
        failed = sum(attempt.how == "failed" for attempt in ran)
        if found is not None:
            outcome, value = judged(found, metric)
            before = outcome, value, known is not None and known.outcome == outcome
        elif known is not None and not made.afresh and not is_forgiven:
            before = known.outcome, known.value, True
        elif failed > self.failures.get(number, 0):
            before = "failed", None, False
        else:
            return None
        self.attempts[number] = ran
        return before

    def unfinished(self, id: int, number: str, limit: int) -> tuple[Outcome, str]:
        """How a trial ended whose process is gone and that has no numbers, and why, where its folder does not say.

        Args:
            id: its suggestion.
            number: its folder.
            limit: how often it may be lost; -1 is without end.
        """
        ran, losses = trial.attempts(self.store, number), self.losses.get(id, 0)
        if ran and ran[-1].how == "failed":
            return "failed", ""
        if limit < 0 or losses < limit:
            return "lost", ""
        return "failed", f"lost with its process or node {losses + 1} times; runtime.max_failures={limit}"

    def _row(self, made: Suggestion, event: Event, number: str) -> Told:
        ran = self.attempts.get(number, [])
        found = trial.facts(self.store, number) if number else None
        error = event.get("error", "") or (ran[-1].error if ran else "")
        if event["outcome"] == "failed" and found is not None:
            error = "it ended without a finite value of the metric that counts"
        return Told(
            id=made.id,
            values=made.values,
            outcome=event["outcome"],
            value=event["value"],
            seconds=trial.seconds(ran),
            attempts=len(ran),
            began=ran[0].began if ran else time.time(),
            order=len(self.told),
            metrics=found["metrics"] if found else {},
            number=number,
            beside={name: found[name] for name in trial.BESIDE if name in found} if found else {},
            error=error,
        )


def judged(facts: Mapping[str, Any], metric: str) -> tuple[Outcome, float | None]:
    """What a finished trial counts as."""
    value = facts["metrics"].get(metric)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return ("done", float(value)) if numeric else ("failed", None)


def of_the_best(told: Iterable[Told], ranked: Iterable[Best], most: int) -> set[str]:
    """The folders of every trial of the best settings, so many of them, that are among these trials."""
    numbers = defaultdict[str, set[str]](set)
    for one in told:
        if one.number:
            numbers[setting(one.values)].add(one.number)
    own = (numbers[key] for best in ranked if (key := setting(best.values)) in numbers)
    return set[str]().union(*islice(own, most))


def recall(store: Store, events: Iterable[Event]) -> Past:
    """What a journal and the trials' folders say.

    Args:
        store: the study's folder.
        events: its journal.
    """
    past, numbers = Past(store), dict[tuple[str, int], str]()
    for number in store.folders(trial.KIND):
        past.attempts[number] = trial.attempts(store, number)
        order = trial.about(store, number)
        if order is None:
            continue
        past.orders[number], key = order, (setting(order.values), order.repeat)
        if key not in numbers or trial.facts(store, number) is not None:
            numbers[key] = number
    asked: dict[int, Suggestion] = {}
    for event in events:
        if event["event"] == "ask":
            asked[event["id"]] = Suggestion(event["id"], event["values"], event["repeat"])
        elif event["event"] == "tell":
            made = asked[event["id"]]
            past.tell(made, event, numbers.get((setting(made.values), made.repeat), ""))
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
