"""What a study has used of its budget, the trials that run among it, and whether that is all."""

from dataclasses import dataclass

from medtrain.search import cost
from medtrain.search.settings import BudgetConfig, PriceConfig


@dataclass(frozen=True)
class Used:
    """When trials ran: (began, until) of every attempt, seconds since the epoch."""

    spans: tuple[tuple[float, float], ...]

    @property
    def slot_hours(self) -> float:
        """Hours that trials ran, together."""
        return sum(until - began for began, until in self.spans) / 3600

    @property
    def hours(self) -> float:
        """Hours in which any trial ran."""
        return cost.union_s(self.spans) / 3600

    def cost(self, price: PriceConfig) -> float | None:
        """Their price; none where none is given."""
        return None if price.per_slot_hour is None else price.per_slot_hour * self.slot_hours


def exhausted(budget: BudgetConfig, price: PriceConfig, begun: int, used: Used) -> str:
    """Which limit is reached, as its key and value; empty while there is more.

    Args:
        budget: the limits.
        price: what a slot costs.
        begun: trials that have an outcome or run.
        used: what they took.
    """
    if budget.trials is not None and begun >= budget.trials:
        return f"budget.trials={budget.trials}"
    if budget.hours is not None and used.hours >= budget.hours:
        return f"budget.hours={budget.hours:g}"
    if budget.cost is not None and (used.cost(price) or 0.0) >= budget.cost:
        return f"budget.cost={budget.cost:g} {price.currency}"
    return ""
