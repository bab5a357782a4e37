"""A study without Ray: which trial is next, how each ended, what was spent; all of it rebuilt from storage.

    studies/<name>/study.json    what the study is of
    studies/<name>/journal/      everything asked and told
    studies/<name>/trials/       the trials, see `trial.py`

The journal is the truth of the search, a finished trial's manifest that of the trial: a kill between the two hands the
trial out again, and it is read back at once.
"""

import time
from dataclasses import asdict
from typing import Any

from medtrain.artifacts import Policy
from medtrain.config import fingerprint
from medtrain.errors import ConfigError
from medtrain.search import trial, trials
from medtrain.search.beginning import begin, earlier, folder
from medtrain.search.cost import union_s
from medtrain.search.journal import Journal, Recorded
from medtrain.search.searcher import Best, Outcome, Suggestion
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Values, assignments, look_up
from medtrain.search.told import JOURNAL, Told, recall, rhythm
from medtrain.search.trial import Order
from medtrain.storage import Store

__all__ = ["Study", "Told", "folder"]
DIGITS = 12
"""So many of a fingerprint's digits name a trial's folder."""
GRACE_S = 60.0
"""How long an unfinished trial's process may take to end, seconds."""
REFUSED = 50
"""So many settings in a row that make no config, and the space is wrong."""


class Study:
    """A study, begun or gone on with; one process at a time.

    Args:
        root: where artifacts lie.
        config: the study's.
        policy: whether to begin anew, or to go on with trials that other code made.

    Raises:
        ConfigError: the space does not go with the trial's base config.
        IdentityMismatch: a study of this name is of something else, or was made by other code.
        MissingArtifact: an input of the trials does not exist.
    """

    def __init__(self, root: Store, config: StudyConfig, policy: Policy):
        self.root, self.config, self.settings = root, config, config.study
        self.store = begin(root, config.study, policy)
        self.running: dict[int, Order] = {}
        """Trials that are out, by suggestion."""
        self._trying = self.settings.trying
        self._since: dict[int, float] = {}
        self._twins: dict[str, list[Suggestion]] = {}
        self._base = trials.base(self._trying, root)
        journal = Journal(self.store.sub(JOURNAL))
        events = journal.read()
        self.recorded = Recorded(self.settings.searcher, self.settings.space, self._base, append=journal.append)
        self.recorded.replay(events)
        self.past = recall(self.store, events)
        """What the trials' folders say."""
        self._untidy = {told.number for told in self.told if told.number}
        self._again = list(self.recorded.out)
        for told in self.told:  # whoever ran it has gone with the submission that told of it
            if told.number:
                trial.end(self.store, told.number, "killed")
        if all(event["event"] != "ask" for event in events):
            added = sum(event["event"] == "add" for event in events)
            for one in earlier(root, self.settings.earlier)[added:]:
                self.recorded.add(one.values, one.outcome, one.value)

    @property
    def told(self) -> list[Told]:
        """Trials with an outcome, in the order of completion."""
        return self.past.told

    @property
    def best(self) -> Best | None:
        """The best setting yet."""
        return self.recorded.search.best

    @property
    def enough(self) -> str:
        """Which budget is spent; empty while there is more."""
        budget, price = self.settings.budget, self.settings.price
        begun = len(self.told) + len(self.running) + sum(map(len, self._twins.values()))
        if budget.trials is not None and begun >= budget.trials:
            return f"budget.trials={budget.trials}"
        if budget.hours is not None and self.hours() >= budget.hours:
            return f"budget.hours={budget.hours:g}"
        if budget.cost is not None and (self.cost() or 0.0) >= budget.cost:
            return f"budget.cost={budget.cost:g} {price.currency}"
        return ""

    @property
    def over(self) -> str:
        """Why no trial will come any more; empty while one may."""
        if self.running:
            return ""
        return self.enough or ("" if self._again else self.recorded.search.finished)

    def next(self) -> Order | None:
        """A trial to run; None if there is none now. One that was run before is told at once.

        Raises:
            ConfigError: setting after setting makes no config.
            TrainingError: so many trials failed that the search cannot go on.
        """
        refused = 0
        while not self.enough:
            made = self._again.pop(0) if self._again else self.recorded.ask()
            if made is None:
                return None
            try:
                order = self._order(made)
            except ConfigError:
                refused += 1
                if refused == REFUSED:
                    raise
                self._tell(made, "failed", None)
                continue
            if order.number in {other.number for other in self.running.values()}:
                self._twins.setdefault(order.number, []).append(made)
                if len(self._twins[order.number]) >= self.settings.slots:
                    return None  # the search goes round in a circle until this setting's value is known
            elif not self._told_already(made, order):
                self.running[made.id], self._since[made.id] = order, time.time()
                return order
        return None

    def ended(self, number: str, stopped: float | None = None) -> Told | None:
        """A trial's process has said that it has ended, or is gone; its folder decides how.

        Args:
            number: the trial's folder.
            stopped: the last value of one that was stopped early.

        Returns:
            The outcome; none where the trial was lost and will be handed out again.

        Raises:
            TrainingError: so many trials failed that the search cannot go on.
        """
        id, order = next((id, order) for id, order in self.running.items() if order.number == number)
        found = trial.facts(self.store, number)
        if found is not None:
            outcome, value = _judged(found, self.settings.metric)
        elif stopped is not None:
            trial.end(self.store, number, "pruned")  # its process sees that, and gives back what it holds
            outcome, value = "pruned", stopped
        else:
            trial.end(self.store, number, "lost")
            outcome, value = self._unfinished(id, number), None
        self.past.attempts[number] = trial.attempts(self.store, number)
        del self.running[id], self._since[id]
        told = self._tell(Suggestion(id, order.values, order.repeat), outcome, value, number)
        if told is not None:
            for twin in self._twins.pop(number, ()):
                self._tell(twin, outcome, value, number)
        self.tidy(GRACE_S)
        return told

    def tidy(self, grace_s: float = 0.0) -> None:
        """Delete what trials keep that are not among the best.

        Args:
            grace_s: for so long after its end an unfinished trial's process may still be writing.
        """
        sign = 1.0 if self.settings.searching.mode == "min" else -1.0
        good = sorted((sign * told.value, told.number) for told in self.told if told.value is not None)
        best = list(dict.fromkeys(number for _, number in good))[: self.settings.keep]
        out = {order.number for order in self.running.values()}
        for number in self._untidy - set(best) - out:
            ran = trial.attempts(self.store, number)
            unfinished = trial.facts(self.store, number) is None
            if unfinished and ran and (ran[-1].how == "running" or time.time() - ran[-1].until < grace_s):
                continue
            trial.prune(self.store, number)
            trials.prune(self._trying, self.root, list(self.past.orders[number].overrides))
            self._untidy.remove(number)

    def slot_hours(self) -> float:
        """Hours that trials ran, together."""
        return sum(until - began for began, until in self._spans()) / 3600

    def hours(self) -> float:
        """Hours in which any trial ran."""
        return union_s(self._spans()) / 3600

    def cost(self) -> float | None:
        """What the trials have cost; none without a price."""
        price = self.settings.price.per_slot_hour
        return None if price is None else price * self.slot_hours()

    def command(self, values: Values, repeat: int = 0) -> str:
        """A trial as a command line, to be run where the project lies."""
        order = self._order(Suggestion(0, values, repeat))
        return trials.command(self._trying, order.overrides)

    def _spans(self) -> list[tuple[float, float]]:
        """(began, until) of every attempt."""
        found = [(a.began, a.until) for known in self.past.attempts.values() for a in known]
        return [*found, *((since, time.time()) for since in self._since.values())]

    def _order(self, made: Suggestion) -> Order:
        """The trial of a suggestion."""
        own = assignments(made.values)
        if made.repeat and self._trying.seed is not None:
            own.append(f"{self._trying.seed}={int(look_up(self._base, self._trying.seed) or 0) + made.repeat}")
        of = asdict(trials.identity(self._trying, self.root, own))
        number = fingerprint(of)[:DIGITS]
        overrides = [*own, *trials.named(self._trying, self.root, self.settings.name, number)]
        seen = rhythm(self.told, self.past.attempts)
        if seen is not None and seen.steps is not None:
            overrides += trials.paced(self._trying, seen.steps, own)
        return Order(number=number, identity=of, values=made.values, repeat=made.repeat, overrides=tuple(overrides))

    def _told_already(self, made: Suggestion, order: Order) -> bool:
        """Whether a trial has ended before, and nobody had told the search; it is told now."""
        self.past.orders[order.number] = order
        found = trial.facts(self.store, order.number)
        ran = trial.attempts(self.store, order.number)
        failed = sum(attempt.how == "failed" for attempt in ran)
        if found is None and failed <= self.past.failures.get(made.id, 0):
            return False
        self.past.attempts[order.number] = ran
        outcome, value = _judged(found, self.settings.metric) if found is not None else ("failed", None)
        self._tell(made, outcome, value, order.number)
        return True

    def _unfinished(self, id: int, number: str) -> Outcome:
        """How a trial ended whose process is gone and that has no numbers."""
        ran = trial.attempts(self.store, number)
        if ran and ran[-1].how == "failed":
            return "failed"
        limit = self.config.runtime.max_failures
        return "lost" if limit < 0 or self.past.losses.get(id, 0) < limit else "failed"

    def _tell(self, made: Suggestion, outcome: Outcome, value: float | None, number: str = "") -> Told | None:
        self.recorded.tell(made.id, outcome, value)
        if number:
            self._untidy.add(number)
        return self.past.tell(made, outcome, value, number)


def _judged(facts: dict[str, Any], metric: str) -> tuple[Outcome, float | None]:
    """What a finished trial counts as."""
    value = facts["metrics"].get(metric)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return ("done", float(value)) if numeric else ("failed", None)
