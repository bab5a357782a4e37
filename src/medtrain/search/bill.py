"""What a study took and will take, for people: in time, and in money where there is a price."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medtrain.search import cost, trial
from medtrain.search.cost import Forecast, Limits, Spent
from medtrain.search.settings import StudySettings
from medtrain.search.told import Told
from medtrain.search.trial import Attempt


@dataclass(frozen=True)
class Bill:
    """In slot-seconds, with their price."""

    spent: Spent
    forecast: Forecast | None
    per_slot_hour: float | None
    currency: str

    def price(self, slot_s: float) -> str:
        """Slot-seconds as money, or a dash."""
        if self.per_slot_hour is None:
            return "–"
        return f"{cost.money(slot_s, self.per_slot_hour):.2f} {self.currency}"

    @property
    def line(self) -> str:
        """What it took and what is left, in one line."""
        priced, left = self.per_slot_hour is not None, self.forecast
        spent = f"cost {self.price(self.spent.slot_s)}" if priced else f"{span(self.spent.slot_s)} of slot time"
        if left is None:
            return spent
        money = f"{self.price(left.slot_s)}, " if priced else ""
        return f"{spent}, about {money}{span(3600 * left.hours)} to finish by budget.{left.by}"


def bill(given: StudySettings, told: Sequence[Told], attempts: Mapping[str, list[Attempt]]) -> Bill:
    """What a study took, by the attempts at its trials, and will take.

    Args:
        given: the study's settings.
        told: its trials with an outcome.
        attempts: of every trial, by its folder's name.
    """
    every = [one for ran in attempts.values() for one in ran]
    ended = {one.number for one in told}
    spent = Spent(
        told=len(told),
        slot_s=trial.seconds(every),
        open_s=sum(trial.seconds(ran) for number, ran in attempts.items() if number not in ended),
        lost_s=trial.seconds([one for one in every if one.how in ("lost", "killed")]),
        hours=cost.union_s((one.began, one.until) for one in every) / 3600,
    )
    limits = Limits(given.budget.trials, given.budget.hours, given.budget.cost)
    price = given.price.per_slot_hour
    return Bill(spent, cost.forecast(spent, limits, given.slots, price), price, given.price.currency)


def span(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.1f} h"
