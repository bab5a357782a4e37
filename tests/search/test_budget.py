"""What a study has used: hours at once counted once, slots each for itself, and the limit that is reached first."""

import pytest

from medtrain.search.budget import Used, exhausted
from medtrain.search.settings import BudgetConfig, PriceConfig

USED = Used(((0.0, 3600.0), (1800.0, 5400.0), (7200.0, 7200.0 + 1800)))
PRICE = PriceConfig(per_slot_hour=2.0, currency="EUR")


def test_hours_count_what_ran_at_once_only_once() -> None:
    assert (USED.hours, USED.slot_hours, USED.cost(PRICE), USED.cost(PriceConfig())) == (2.0, 2.5, 5.0, None)
    assert Used(()).hours == Used(()).slot_hours == 0


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({"trials": 3}, "budget.trials=3"),
        ({"trials": 4}, ""),
        ({"trials": None, "hours": 2.0}, "budget.hours=2"),
        ({"trials": None, "hours": 2.01}, ""),
        ({"trials": None, "cost": 5.0}, "budget.cost=5 EUR"),
        ({"trials": None, "cost": 5.01}, ""),
        ({"trials": 3, "hours": 1.0}, "budget.trials=3"),
    ],
)
def test_the_limit_that_is_reached_is_named(limits: dict[str, float | None], reached: str) -> None:
    assert exhausted(BudgetConfig.model_validate(limits), PRICE, 3, USED) == reached


def test_without_a_price_money_is_no_limit() -> None:
    assert not exhausted(BudgetConfig(cost=0.01, trials=None), PriceConfig(), 3, USED)
