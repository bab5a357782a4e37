"""A study as it runs: in lines, and as a report that is made again every now and then."""

import time
from collections.abc import Mapping

from medtrain.search import report, trial, trials
from medtrain.search.bill import bill, span
from medtrain.search.cadence import Cadence
from medtrain.search.history import ellipses
from medtrain.search.report import last_line, why
from medtrain.search.space import assignments
from medtrain.search.study import Study, Told
from medtrain.search.told import rhythm
from medtrain.search.trial import Order
from medtrain.tracking import Progress

EVERY_S = 60.0
"""How often a study speaks of which no trial ends, and at most how often its report is made again."""
SHARE = 0.02
"""Of a study's time, so much may go into its report: while it is made no trial is handed out."""
MOVED = 1.25
"""A cadence that differs by such a factor from the one that was shown is shown."""


class Live:
    """A table that grows by a line for each trial, and a progress line under it.

    Args:
        study: the study, as it begins or goes on.
    """

    def __init__(self, study: Study):
        self._shown = self._reported = len(study.told)
        self._total = study.settings.budget.trials
        self._bar = Progress(study.settings.name, self._total or 0, done=self._shown, unit="trial", every_s=0.0)
        self._spoke, self._places = time.monotonic(), -1
        self._due = self._spoke + EVERY_S
        self._steps = 0
        if study.told:
            print(f"study {study.settings.name}: goes on after {self._shown} trials", flush=True)

    def began(self, order: Order) -> None:
        """A trial has been handed out."""
        self._spoke = time.monotonic()

    def told(self, study: Study) -> None:
        """Show the trials that were told since the last time."""
        new = study.told[self._shown :]
        self._shown += len(new)
        for told in new:
            print(row(told, study.settings.metric), flush=True)
            if told.outcome == "failed":
                place = f"; see {study.store.root}/{trial.KIND}/{told.number}" if told.number else ""
                print(f"{'':>12}  {why(told)}{place}", flush=True)
        if new:
            self._spoke = time.monotonic()
            self._bar.advance(len(new), best(study))
            if study.settings.price.per_slot_hour is not None or self._total is None:
                print(spent(study), flush=True)
            self._cadence(study)

    def ended(self, study: Study, number: str, told: Told | None, error: str = "") -> None:
        """A trial has ended; or it was lost, perhaps somebody knows why, or failed, and will come again."""
        if told is None:
            ran = study.past.attempts.get(number, [])
            failed = bool(ran) and ran[-1].how == "failed"
            because = last_line(ran[-1].error if failed else error)
            what = "failed" if failed else "lost with its process or node"
            print(f"{number:>12}  {what}{because and f' ({because})'}; it will be handed out again", flush=True)
        self.told(study)

    def room(self, places: int, needs: Mapping[str, float], slots: int) -> None:
        """Say how many trials there is room for, where that has changed."""
        if places != self._places and places < slots:
            wanted = ", ".join(f"{much:g} {name}" for name, much in needs.items())
            print(f"room for {places} of {slots} trials at a time; each takes {wanted}", flush=True)
        self._places = places

    def tick(self, study: Study) -> None:
        """Say every now and then what runs, and make the report again where trials have ended."""
        now = time.monotonic()
        if now - self._spoke > EVERY_S:
            self._spoke = now
            running = ", ".join(order.number for order in study.running.values())
            said = f"{len(study.told)} trials told, running: {running or 'none'}; {best(study)}; {spent(study)}"
            print(said, flush=True)
        if now > self._due and self._reported < len(study.told):
            self._reported = len(study.told)
            try:
                page(study)
            except Exception as error:  # a page is no reason to end a study
                print(f"no report yet: {type(error).__name__}: {error}", flush=True)
            took = time.monotonic() - now
            self._due = now + max(EVERY_S, took / SHARE)

    def close(self, study: Study) -> None:
        """Say how it ended."""
        self.told(study)
        used, price = study.used, study.settings.price
        cost = used.cost(price)
        money = "" if cost is None else f", {cost:.2f} {price.currency}"
        print(
            f"study {study.settings.name}: {len(study.told)} trials in {used.hours:.2f} h "
            f"({used.slot_hours:.2f} slot hours{money}); ended by {study.over}",
            flush=True,
        )

    def _cadence(self, study: Study) -> None:
        """Say how often checkpoints are due, where that is new."""
        seen = rhythm(study.told, study.past.attempts)
        if seen is None or seen.steps is None:
            return
        low, high = sorted((seen.steps, self._steps))
        if low and high < MOVED * low:
            return
        self._steps = seen.steps
        varied = [f"{name}=" for name in study.settings.space]
        paced = bool(trials.paced(study.settings.trying, seen.steps, varied))
        print(rhythm_line(seen, paced), flush=True)


def row(told: Told, metric: str) -> str:
    """A trial as a line of the table."""
    value = "-" if told.value is None else f"{told.value:.6g}"
    again = f", {told.attempts} attempts" if told.attempts > 1 else ""
    setting = " ".join(assignments({name: _short(at) for name, at in told.values.items()}))
    return f"{told.number or '-':>12}  {told.outcome:<6} {metric}={value:<12} {told.seconds:7.1f} s{again}  {setting}"


def best(study: Study) -> str:
    """The best so far."""
    found = study.best
    return "nothing yet" if found is None else f"best {study.settings.metric}={found.value:.6g}"


def spent(study: Study) -> str:
    """What it took until now, and what is left."""
    running = {order.number: trial.attempts(study.store, order.number) for order in study.running.values()}
    return bill(study.settings, study.told, {**study.past.attempts, **running}).line


def rhythm_line(seen: Cadence, paced: bool) -> str:
    """How often checkpoints are due, and of what that is made; `paced` is whether trials to come do so."""
    due = f"a checkpoint each {seen.steps} steps{'' if paced else ' is due, the study has its own'}"
    return (
        f"{due}: C {span(seen.checkpoint_s)}, {seen.per_hour:.3g} preemptions per slot-hour ({seen.preemptions} seen), "
        f"Young {span(seen.young_s)}, Daly {span(seen.daly_s)}"
    )


def page(study: Study, verdict: str = "") -> str:
    """Make the study's report, as it is now.

    Args:
        study: the study.
        verdict: what held-out data say of its winner, one line.

    Returns:
        The page's path.
    """
    return report.build(study.store, study.config, study.told, ellipses(study.recorded), study.best, verdict)


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
