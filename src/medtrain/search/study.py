"""A study without Ray: which trial is next, how each ended, what was spent; all of it rebuilt from storage.

    studies/<name>/study.json    what the study is of
    studies/<name>/journal/      everything asked and told
    studies/<name>/trials/       the trials, see `trial.py`

The journal is the truth of the search, a finished trial's manifest that of the trial: a kill between the two hands the
trial out again, and it is read back at once.
"""

import time
from dataclasses import asdict
from itertools import islice

from medtrain.artifacts import Policy
from medtrain.config import fingerprint
from medtrain.errors import ConfigError, TrainingError
from medtrain.search import trial, trials
from medtrain.search.beginning import begin, earlier, folder
from medtrain.search.budget import Used, exhausted
from medtrain.search.journal import Journal, Recorded
from medtrain.search.searcher import Best, Outcome, Suggestion
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Values, assignments, look_up
from medtrain.search.told import JOURNAL, Told, judged, of_the_best, recall, rhythm
from medtrain.search.trial import Order
from medtrain.storage import Store

__all__ = ["Study", "Told", "folder"]
DIGITS = 12
"""So many of a fingerprint's digits name a trial's folder."""
GRACE_S = 60.0
"""How long an unfinished trial's process may take to end, seconds."""
REFUSED = 50
"""So many settings in a row that make no config, and the space is wrong."""
KNOWN = 100
"""So many settings in a row whose trials have ended before, and the search has nothing new to try."""


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
        self._journal = Journal(self.store.sub(JOURNAL))
        events = self._journal.read()
        self.recorded = Recorded(self.settings.searcher, self.settings.space, self._base, append=self._journal.append)
        self.recorded.replay(events)
        self.past = recall(self.store, events)
        """What the trials' folders say."""
        self._untidy = {told.number for told in self.told if told.number}
        self._again = list(self.recorded.out)
        self._in_vain = 0
        """How many settings in a row had been tried before."""
        for told in self.told:  # whoever ran it has gone with the submission that told of it
            if told.number:
                trial.end(self.store, told.number, "killed")
        if all(event["event"] != "ask" for event in events):
            added = sum(event["event"] == "add" for event in events)
            for one, compares in islice(earlier(root, self.settings), added, None):
                self.recorded.add(one.values, one.outcome, one.value, compares)

    @property
    def told(self) -> list[Told]:
        """Trials with an outcome, in the order of completion."""
        return self.past.told

    @property
    def best(self) -> Best | None:
        """The best setting yet; it may be of a study in `earlier`."""
        return self.recorded.search.best

    def tries(self, values: Values) -> list[Told]:
        """The trials of a setting that have an outcome."""
        return [told for told in self.told if told.number and told.values == values]

    @property
    def enough(self) -> str:
        """Which budget is spent; empty while there is more."""
        begun = len(self.told) + len(self.running)
        return exhausted(self.settings.budget, self.settings.price, begun, self.used)

    @property
    def used(self) -> Used:
        """What its trials took until now."""
        spans = [(one.began, one.until) for ran in self.past.attempts.values() for one in ran]
        return Used((*spans, *((since, time.time()) for since in self._since.values())))

    @property
    def over(self) -> str:
        """Why no trial will come any more; empty while one may."""
        if self.running:
            return ""
        if self.enough or self._again:
            return self.enough
        return self.recorded.search.finished or ("every setting it suggests is known" if self._turns else "")

    def next(self) -> Order | None:
        """A trial to run; None if there is none now. One that was run before is told at once.

        Raises:
            ConfigError: setting after setting makes no config, or another submission writes this study.
            TrainingError: so many trials failed that the search cannot go on.
        """
        refused = 0
        while not self.enough:
            is_new = not self._again
            if is_new and self._turns:
                return None
            made = self.recorded.ask() if is_new else self._again.pop(0)
            if made is None:
                return None
            try:
                order = self._order(made)
            except ConfigError as error:
                refused += 1
                if refused == REFUSED:
                    raise
                self._tell(made, "failed", None, error=str(error))
                continue
            if order.number in {other.number for other in self.running.values()}:
                self._twins.setdefault(order.number, []).append(made)
            elif self._told_already(made, order):
                self._in_vain += is_new
            else:
                self._in_vain = 0
                self.running[made.id], self._since[made.id] = order, time.time()
                return order
        return None

    def ended(self, number: str, stopped: float | None = None) -> Told | None:
        """A trial's process has said that it has ended, or is gone; its folder decides how.

        Args:
            number: the trial's folder.
            stopped: the last value of one that was stopped early.

        Returns:
            The outcome; none where the trial was lost, or failed and has `retries` left, and will be handed out again.

        Raises:
            ConfigError: another submission writes this study.
            TrainingError: so many trials failed that the search cannot go on.
        """
        self._journal.check()  # before its folder is written to, where the other one's attempt may be
        id, order = next((id, order) for id, order in self.running.items() if order.number == number)
        found, error = trial.facts(self.store, number), ""
        if found is not None:
            outcome, value = judged(found, self.settings.metric)
        elif stopped is not None:
            trial.end(self.store, number, "pruned")  # its process sees that, and gives back what it holds
            outcome, value = "pruned", stopped
        else:
            trial.end(self.store, number, "lost")
            (outcome, error), value = self.past.unfinished(id, number, self.config.runtime.max_failures), None
        self.past.attempts[number] = trial.attempts(self.store, number)
        del self.running[id], self._since[id]
        self._in_vain = 0  # the search may go elsewhere now
        told = self._tell(Suggestion(id, order.values, order.repeat), outcome, value, number, error=error)
        if told is not None:
            for twin in self._twins.pop(number, ()):
                self._tell(twin, outcome, value, number, known=True)
        self.tidy(GRACE_S)
        return told

    def tidy(self, grace_s: float = 0.0) -> None:
        """Delete what trials keep whose settings are not among the best, as the searcher ranks them.

        Args:
            grace_s: for so long after its end an unfinished trial's process may still be writing.
        """
        kept = of_the_best(self.told, self.recorded.search.ranked, self.settings.keep)
        out = {order.number for order in self.running.values()}
        for number in self._untidy - kept - out:
            ran = trial.attempts(self.store, number)
            unfinished = trial.facts(self.store, number) is None
            if unfinished and ran and (ran[-1].how == "running" or time.time() - ran[-1].until < grace_s):
                continue
            trial.prune(self.store, number)
            trials.prune(self._trying, self.root, list(self.past.orders[number].overrides))
            self._untidy.remove(number)

    def command(self, values: Values, repeat: int = 0) -> str:
        """A trial as a command line, to be run where the project lies."""
        order = self._order(Suggestion(0, values, repeat))
        return trials.command(self._trying, order.overrides)

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

    @property
    def _turns(self) -> bool:
        """Whether the search goes round in a circle until a trial that runs has ended, or for good."""
        waiting = (len(self._twins.get(order.number, ())) for order in self.running.values())
        return self._in_vain >= KNOWN or any(count >= self.settings.slots for count in waiting)

    def _told_already(self, made: Suggestion, order: Order) -> bool:
        """Whether a trial has ended before; the search is told so now."""
        self.past.orders[order.number] = order
        before = self.past.before(made, order.number, self.settings.metric)
        if before is None:
            return False
        outcome, value, known = before
        self._tell(made, outcome, value, order.number, known=known)
        return True

    def _tell(
        self,
        made: Suggestion,
        outcome: Outcome,
        value: float | None,
        number: str = "",
        *,
        known: bool = False,
        error: str = "",
    ) -> Told | None:
        try:
            event = self.recorded.tell(made.id, outcome, value, known, error)
        except TrainingError:
            if number:  # whoever goes on has seen why it failed, and wants it run
                trial.forgive(self.store, number)
            raise
        if number:
            self._untidy.add(number)
        return self.past.tell(made, event, number)
