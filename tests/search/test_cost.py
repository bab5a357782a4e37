"""Money: what a study took and what it will take, against a clock that runs its trials."""

import random

import pytest

from medtrain.search import cost
from medtrain.search.cost import Limits, Spent


def test_money_is_price_times_hours_of_all_slots() -> None:
    assert cost.money(7200, 0.4) == pytest.approx(0.8)
    assert cost.money(0, 0.4) == 0


def test_lost_attempts_are_paid_for_and_expected_again() -> None:
    """10 trials of 100 s, each of which lost 20 s before: 120 s a trial, and 5 are to come, one of which has 30 s."""
    spent = Spent(told=10, slot_s=1230, open_s=30, lost_s=200)
    found = cost.forecast(spent, Limits(trials=15), slots=2)
    assert cost.mean_trial_s(spent) == 120
    assert found is not None and found.by == "trials" and found.trials == 15
    assert found.slot_s == pytest.approx(570) and found.hours == pytest.approx(285 / 3600)


def test_the_first_limit_ends_a_study() -> None:
    spent = Spent(told=4, slot_s=3600, hours=0.5)
    by = {
        "trials": Limits(trials=5, hours=10, cost=10),
        "hours": Limits(trials=50, hours=0.6, cost=10),
        "cost": Limits(trials=50, hours=10, cost=1.1),
    }
    for name, limits in by.items():
        found = cost.forecast(spent, limits, 2, per_slot_hour=1.0)
        assert found is not None and found.by == name
    hours = cost.forecast(spent, by["hours"], 2, 1.0)
    money = cost.forecast(spent, by["cost"], 2, 1.0)
    assert hours is not None and hours.slot_s == pytest.approx(720) and hours.trials == 4
    assert money is not None and cost.money(money.slot_s, 1.0) == pytest.approx(0.1)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert cost.forecast(Spent(0, 50.0), Limits(trials=5), 2) is None
    assert cost.forecast(Spent(3, 50.0), Limits(), 2) is None
    assert cost.forecast(Spent(3, 50.0), Limits(cost=5.0), 2) is None  # money without a price
    done = cost.forecast(Spent(7, 50.0), Limits(trials=5), 2)
    assert done is not None and done.slot_s == 0 and done.trials == 7


def test_time_in_which_something_ran_counts_once() -> None:
    spans = [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.8), (9.0, 9.0)]
    assert cost.union_s(spans) == pytest.approx(4.0)
    assert cost.union_s([]) == 0
    seconds = {n for began, ended in spans for n in range(int(10 * began), int(10 * ended))}
    assert cost.union_s(spans) == pytest.approx(len(seconds) / 10)


def test_half_way_it_foresees_what_a_clock_then_shows() -> None:
    """Two slots, 200 trials of 1 to 10 s, a tenth of which are lost half-way and come again."""
    draw = random.Random(0)
    free, now, slot_s, told, at_half = [0.0, 0.0], 0.0, 0.0, 0, None
    while told < 200:
        slot = free.index(min(free))
        takes = draw.uniform(1, 10)
        lost = draw.random() < 0.1
        took = takes / 2 if lost else takes
        free[slot] += took
        slot_s += took
        told += not lost
        now = max(free)
        if told == 100 and at_half is None:
            at_half = (cost.forecast(Spent(told, slot_s), Limits(trials=200), 2), slot_s, now)
    assert at_half is not None and at_half[0] is not None
    said, before, then = at_half
    assert said.slot_s == pytest.approx(slot_s - before, rel=0.15)
    assert said.hours * 3600 == pytest.approx(now - then, rel=0.15)
