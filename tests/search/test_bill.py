"""medtrain.search.bill: what a study took and will take."""

from dataclasses import replace
from typing import Any

import pytest

from medtrain.search.bill import bill, span
from medtrain.search.told import Told
from medtrain.search.trial import Attempt


def told(number: str) -> Told:
    return Told(0, {}, "done", 1.0, 0.0, 1, 0.0, 0, number=number)


def ran(began: float, seconds: float, how: Any = "done") -> Attempt:
    return Attempt(number=1, began=began, seen=began + seconds, how=how)


ATTEMPTS = {"a": [ran(0, 600, "lost"), ran(600, 1200)], "b": [ran(0, 1800)], "c": [ran(1800, 900, "running")]}
"""Two trials of half an hour, with what was lost, and one that runs for a quarter of an hour."""


def test_what_was_taken_is_of_all_attempts_and_what_is_left_of_trials_that_have_not_ended(configured: Any) -> None:
    given = configured(budget={"trials": 4}, price={"per_slot_hour": 2.0, "currency": "EUR"}).study
    found = bill(given, [told("a"), told("b")], ATTEMPTS)
    assert (found.spent.slot_s, found.spent.open_s, found.spent.lost_s, found.spent.hours) == (4500, 900, 600, 0.75)
    # Two more of 1800 s, less the 900 s that one has had; two at a time.
    assert found.forecast is not None and found.forecast.slot_s == 2700
    assert found.line == "cost 2.50 EUR, about 1.50 EUR, 22.5 min to finish by budget.trials"


def test_without_a_price_it_is_time_and_without_a_limit_there_is_no_end(configured: Any) -> None:
    given = configured(budget={"hours": 2}).study
    found = bill(given, [told("a"), told("b")], ATTEMPTS)
    assert found.line == "75 min of slot time, about 75 min to finish by budget.hours" and found.price(5) == "–"
    endless = given.model_copy(update={"budget": given.budget.model_copy(update={"hours": None})})
    assert bill(endless, [told("a")], ATTEMPTS).line == "75 min of slot time"
    assert bill(given, [], {"c": ATTEMPTS["c"]}).line == "15 min of slot time", "no trial has ended yet"
    killed = replace(ATTEMPTS["c"][0], how="killed")
    assert bill(given, [], {"c": [killed]}).spent.lost_s == 900


@pytest.mark.parametrize(("seconds", "said"), [(0.25, "0.25 s"), (89.0, "89 s"), (600.0, "10 min"), (9e3, "2.5 h")])
def test_times_are_for_people(seconds: float, said: str) -> None:
    assert span(seconds) == said
