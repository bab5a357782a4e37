"""A study without Ray: which trial is next, how each ended, what was spent; all of it rebuilt from storage.

    studies/<name>/study.json    what the study is of
    studies/<name>/journal/      everything asked and told
    studies/<name>/trials/       the trials, see `trial.py`

The journal is the truth of the search, a finished trial's manifest that of the trial: a kill between the two hands the
trial out again, and it is read back at once.
"""

import json
import time
from dataclasses import asdict
from typing import Any

from medtrain import artifacts
from medtrain.artifacts import Policy
from medtrain.config import fingerprint, identity
from medtrain.errors import ConfigError, IdentityMismatch, MissingArtifact
from medtrain.search import trial, trials
from medtrain.search.journal import Journal, Recorded
from medtrain.search.searcher import Best, Outcome, Suggestion
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Space, Values, assignments, look_up
from medtrain.search.told import JOURNAL, Told, read, recall
from medtrain.search.trial import Order
from medtrain.storage import Store

__all__ = ["Study", "Told", "folder"]
KIND, FILE = "studies", "study.json"
DIGITS = 12
"""So many of a fingerprint's digits name a trial's folder."""
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
        self.store = folder(root, config.study.name)
        self.running: dict[int, Order] = {}
        """Trials that are out, by suggestion."""
        self._trying = self.settings.trying
        self._since: dict[int, float] = {}
        self._twins: dict[str, list[Suggestion]] = {}
        self._base = trials.base(self._trying, root)
        self._begin(policy)
        journal = Journal(self.store.sub(JOURNAL))
        events = journal.read()
        self.recorded = Recorded(self.settings.searcher, self.settings.space, self._base, append=journal.append)
        self.recorded.replay(events)
        self._past = recall(self.store, events)
        self._untidy = {told.number for told in self.told if told.number}
        self._again = list(self.recorded.out)
        for told in self.told:  # whoever ran it has gone with the submission that told of it
            if told.number:
                trial.end(self.store, told.number, "killed")
        if all(event["event"] != "ask" for event in events):
            self._learn_from_earlier(known=sum(event["event"] == "add" for event in events))

    @property
    def told(self) -> list[Told]:
        """Trials with an outcome, in the order of completion."""
        return self._past.told

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
        return "" if self.running or self._again else self.enough or self.recorded.search.finished

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
            outcome, value = "pruned", stopped
        else:
            trial.end(self.store, number, "lost")
            outcome, value = self._unfinished(id, number), None
        self._past.attempts[number] = trial.attempts(self.store, number)
        del self.running[id], self._since[id]
        told = self._tell(Suggestion(id, order.values, order.repeat), outcome, value, number)
        if told is not None:
            for twin in self._twins.pop(number, ()):
                self._tell(twin, outcome, value, number)
        self._tidy()
        return told

    def slot_hours(self) -> float:
        """Hours that trials ran, together."""
        return sum(until - began for began, until in self._spans()) / 3600

    def hours(self) -> float:
        """Hours in which any trial ran."""
        total, last = 0.0, 0.0
        for began, until in sorted(self._spans()):
            total, last = total + max(0.0, until - max(began, last)), max(last, until)
        return total / 3600

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
        found = [(a.began, a.until) for known in self._past.attempts.values() for a in known]
        return [*found, *((since, time.time()) for since in self._since.values())]

    def _order(self, made: Suggestion) -> Order:
        """The trial of a suggestion."""
        own = assignments(made.values)
        if made.repeat and self._trying.seed is not None:
            own.append(f"{self._trying.seed}={int(look_up(self._base, self._trying.seed) or 0) + made.repeat}")
        of = asdict(trials.identity(self._trying, self.root, own))
        number = fingerprint(of)[:DIGITS]
        overrides = (*own, *trials.named(self._trying, self.root, self.settings.name, number))
        return Order(number=number, identity=of, values=made.values, repeat=made.repeat, overrides=overrides)

    def _told_already(self, made: Suggestion, order: Order) -> bool:
        """Whether a trial has ended before, and nobody had told the search; it is told now."""
        self._past.orders[order.number] = order
        found = trial.facts(self.store, order.number)
        ran = trial.attempts(self.store, order.number)
        failed = sum(attempt.how == "failed" for attempt in ran)
        if found is None and failed <= self._past.failures.get(made.id, 0):
            return False
        self._past.attempts[order.number] = ran
        outcome, value = _judged(found, self.settings.metric) if found is not None else ("failed", None)
        self._tell(made, outcome, value, order.number)
        return True

    def _unfinished(self, id: int, number: str) -> Outcome:
        """How a trial ended whose process is gone and that has no numbers."""
        ran = trial.attempts(self.store, number)
        if ran and ran[-1].how == "failed":
            return "failed"
        limit = self.config.runtime.max_failures
        return "lost" if limit < 0 or self._past.losses.get(id, 0) < limit else "failed"

    def _tell(self, made: Suggestion, outcome: Outcome, value: float | None, number: str = "") -> Told | None:
        self.recorded.tell(made.id, outcome, value)
        if number:
            self._untidy.add(number)
        return self._past.tell(made, outcome, value, number)

    def _tidy(self) -> None:
        """Delete what trials have kept that are not among the best, once nothing of them runs any more."""
        sign = 1.0 if self.settings.searching.mode == "min" else -1.0
        good = sorted((sign * told.value, told.number) for told in self.told if told.value is not None)
        best = list(dict.fromkeys(number for _, number in good))[: self.settings.keep]
        out = {order.number for order in self.running.values()}
        for number in self._untidy - set(best) - out:
            ran = trial.attempts(self.store, number)
            if ran and ran[-1].how == "running":
                continue
            trial.prune(self.store, number)
            trials.prune(self._trying, self.root, list(self._past.orders[number].overrides))
            self._untidy.remove(number)

    def _begin(self, policy: Policy) -> None:
        """See that the folder is this study's, or make it so."""
        if policy.again:
            self.store.delete("")
        space = Space(self.settings.space)
        middle = space.values([0.5] * len(space.coordinates))
        trials.identity(self._trying, self.root, assignments(middle))  # a wrong name in the space is an error now
        of = trials.identity(self._trying, self.root, [])
        searching = {"metric": self.settings.metric, "trial": identity(self._trying)}
        made = {"config": {**searching, "base": of.config}, "inputs": of.inputs, "code": of.code}
        known = json.loads(self.store.read(FILE)) if self.store.exists(FILE) else None
        if known is None:
            self.store.write(FILE, json.dumps(made, indent=1, ensure_ascii=False).encode("utf-8"))
            return
        differences = artifacts.difference(known, json.loads(json.dumps(made)))
        if differences and not (policy.keep_stale and all(line.startswith("code:") for line in differences)):
            raise IdentityMismatch(
                f"study {self.settings.name} under {self.root.root} is of something else:\n  "
                + "\n  ".join(differences)
                + "\ngive this one another name, pass --again to begin anew, or, where the code alone differs, "
                "--keep-stale to go on with the values of the other code"
            )

    def _learn_from_earlier(self, known: int) -> None:
        """Take in the trials of the studies that this one begins with, but for the first `known` ones.

        Raises:
            MissingArtifact: there is no such study.
        """
        found: list[Told] = []
        for name in self.settings.earlier:
            store = folder(self.root, name)
            if not store.exists(FILE):
                raise MissingArtifact(f"study.earlier: there is no study {name} at {store.root}; leave it out")
            found += read(store)
        for told in found[known:]:
            self.recorded.add(told.values, told.outcome, told.value)


def folder(root: Store, name: str) -> Store:
    """A study's folder."""
    return root.sub(f"{KIND}/{name}")


def _judged(facts: dict[str, Any], metric: str) -> tuple[Outcome, float | None]:
    """What a finished trial counts as."""
    value = facts["metrics"].get(metric)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return ("done", float(value)) if numeric else ("failed", None)
