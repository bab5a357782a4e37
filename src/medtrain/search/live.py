"""A study as it runs, in lines: what began, how each trial ended, the best so far, how long it will take."""

import time
from collections.abc import Mapping

from medtrain.search.space import assignments
from medtrain.search.study import Study, Told
from medtrain.search.trial import Order
from medtrain.tracking import Progress

EVERY_S = 60.0
"""How often a study speaks of which no trial ends."""


class Live:
    """A table that grows by a line for each trial, and a progress line under it.

    Args:
        study: the study, as it begins or goes on.
    """

    def __init__(self, study: Study):
        self._shown = len(study.told)
        self._total = study.settings.budget.trials
        self._bar = Progress(study.settings.name, self._total or 0, done=self._shown, unit="trial", every_s=0.0)
        self._spoke, self._places = time.monotonic(), -1
        if study.told:
            print(f"study {study.settings.name}: goes on after {self._shown} trials", flush=True)

    def began(self, order: Order) -> None:
        """A trial has been handed out."""
        self._spoke = time.monotonic()

    def told(self, study: Study) -> None:
        """Show the trials that were told since the last time."""
        for told in study.told[self._shown :]:
            print(row(told, study.settings.metric), flush=True)
        new = len(study.told) - self._shown
        self._shown = len(study.told)
        if new:
            self._spoke = time.monotonic()
            self._bar.advance(new, best(study))

    def ended(self, study: Study, number: str, told: Told | None) -> None:
        """A trial has ended, or is lost."""
        if told is None:
            print(f"{number:>12}  lost with its process or node; it will be handed out again", flush=True)
        self.told(study)

    def room(self, places: int, needs: Mapping[str, float], slots: int) -> None:
        """Say how many trials there is room for, where that has changed."""
        if places != self._places and places < slots:
            wanted = ", ".join(f"{much:g} {name}" for name, much in needs.items())
            print(f"room for {places} of {slots} trials at a time; each takes {wanted}", flush=True)
        self._places = places

    def tick(self, study: Study) -> None:
        """Say every now and then what runs."""
        if time.monotonic() - self._spoke > EVERY_S:
            self._spoke = time.monotonic()
            running = ", ".join(order.number for order in study.running.values())
            print(f"{len(study.told)} trials told, running: {running or 'none'}; {best(study)}", flush=True)

    def close(self, study: Study) -> None:
        """Say how it ended."""
        self.told(study)
        cost = study.cost()
        money = "" if cost is None else f", {cost:.2f} {study.settings.price.currency}"
        print(
            f"study {study.settings.name}: {len(study.told)} trials in {study.hours():.2f} h "
            f"({study.slot_hours():.2f} slot hours{money}); ended by {study.over}",
            flush=True,
        )


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


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
