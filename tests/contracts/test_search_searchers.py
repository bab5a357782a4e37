"""What every searcher plug-in promises, of the package and of `$MEDTRAIN_PLUGINS`."""

import importlib.util
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from medtrain import plugins
from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.search import searchers
from medtrain.search.searcher import Outcome, Searcher, Suggestion
from medtrain.search.space import Space, Values

FLAT = Space({"x": {"low": -1.0, "high": 2.0}, "y": {"low": 1e-3, "high": 10.0, "log": True}})
MIXED = Space(
    {
        "x": {"low": -1.0, "high": 2.0},
        "n": {"low": 1, "high": 8, "int": True},
        "q": {"low": 0.0, "high": 1.0, "step": 0.25},
        "kind": {"choices": ["a", "b", None]},
        "seed": {"fixed": 3},
    }
)


def settings() -> list[dict[str, Any]]:
    """Each plug-in, and each timing and sampler of those that have several."""
    found: list[dict[str, Any]] = []
    for kind in plugins.files("search", "searchers"):
        if kind == "optuna" and importlib.util.find_spec("optuna") is None:
            continue
        found.append({"kind": kind})
    found.append({"kind": "cmaes", "timing": "generational"})
    if {"kind": "optuna"} in found and importlib.util.find_spec("cmaes") is not None:
        found.append({"kind": "optuna", "sampler": "cmaes"})
    return found


EACH = pytest.mark.parametrize("given", settings(), ids=lambda given: "-".join(given.values()))


def value(values: Values) -> float:
    """Least 0 at x = 0.5, n = 3, q = 0.25, kind = b; y is as good as its logarithm is near 0."""
    found = (values["x"] - 0.5) ** 2 + math.log(values.get("y", 1.0)) ** 2
    found += 0.1 * (values.get("n", 3) - 3) ** 2 + (values.get("q", 0.25) - 0.25) ** 2
    return float(found + (0.5 if values.get("kind", "b") != "b" else 0.0))


def run(searcher: Searcher, count: int, *, sign: float = 1.0, slots: int = 1, seed: int = 0) -> list[Suggestion]:
    """Ask and tell, `slots` at a time, ending in a random order; a fifth of the trials end otherwise than well."""
    order, out, seen = random.Random(seed), list[Suggestion](), list[Suggestion]()
    while len(seen) < count and not searcher.finished:
        while len(out) < slots and (made := searcher.ask()) is not None:
            out.append(made)
            seen.append(made)
        if not out:
            break
        suggestion = out.pop(order.randrange(len(out)))
        how: Outcome = order.choices(["done", "failed", "pruned", "lost"], [8, 1, 0.5, 0.5])[0]
        searcher.tell(suggestion.id, how, sign * value(suggestion.values))
    return seen


def plain(values: Values) -> str:
    """As it stands in a journal."""
    return json.dumps(values, allow_nan=False)


@EACH
def test_its_config_names_it_and_refuses_what_it_does_not_know(given: dict[str, Any]) -> None:
    config = searchers.validate(given)
    assert isinstance(config, Config) and config.model_dump()["kind"] == given["kind"]
    assert plugins.load("search", "searchers", given["kind"]).__doc__
    assert all(info.description for info in type(config).model_fields.values())
    with pytest.raises(ConfigError, match="no_such_setting"):
        searchers.validate({**given, "no_such_setting": 1})


@EACH
@pytest.mark.parametrize("slots", [1, 5])
def test_its_settings_are_of_the_space(given: dict[str, Any], slots: int) -> None:
    seen = run(searchers.make(given, MIXED, {}), 60, slots=slots)
    assert seen
    for suggestion in seen:
        assert list(suggestion.values) == list(MIXED.parameters) and suggestion.values["seed"] == 3
        again = MIXED.values(MIXED.point(suggestion.values))
        assert {**again, "x": 0} == {**suggestion.values, "x": 0}
        assert again["x"] == pytest.approx(suggestion.values["x"])
        assert type(suggestion.values["n"]) is int and type(suggestion.values["q"]) is float
        plain(suggestion.values)


@EACH
def test_the_same_calls_give_the_same_settings_whoever_else_searches(given: dict[str, Any]) -> None:
    alone = [plain(s.values) for s in run(searchers.make(given, MIXED, {}), 40, slots=3)]
    ours, other = searchers.make(given, MIXED, {}), searchers.make({**given, "seed": 9}, MIXED, {})
    np.random.seed(3)
    random.seed(3)
    before: Any = (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[union-attr]
    run(other, 7)
    together = [plain(s.values) for s in run(ours, 40, slots=3)]
    after: Any = (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[union-attr]
    assert together == alone and before == after


@EACH
def test_max_is_min_of_the_negative(given: dict[str, Any]) -> None:
    low, high = (searchers.make({**given, "mode": mode}, FLAT, {}) for mode in ("min", "max"))
    assert run(low, 40, slots=3) == run(high, 40, sign=-1.0, slots=3)
    assert low.best is not None and high.best is not None
    assert low.best.value == -high.best.value and low.recommended == high.recommended


@EACH
def test_a_lost_trial_comes_again_and_a_failed_one_by_retries(given: dict[str, Any]) -> None:
    for how, retries, comes in (("lost", 0, True), ("failed", 0, False), ("failed", 1, True)):
        searcher = searchers.make({**given, "retries": retries}, FLAT, {})
        first, second = searcher.ask(), searcher.ask()
        assert first is not None and second is not None and searcher.out == (first, second)
        searcher.tell(first.id, how)  # type: ignore[arg-type]
        assert (searcher.ask() == first) == comes
        if comes:
            searcher.tell(first.id, "done", 1.0)
            searcher.tell(first.id, "done", -1.0)
            assert searcher.best is not None and searcher.best.value == 1.0 and searcher.told == 1


@EACH
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_value_that_is_none_counts_as_a_failure(given: dict[str, Any], bad: float | None) -> None:
    searcher = searchers.make(given, FLAT, {})
    for number in range(24):
        made = searcher.ask()
        assert made is not None
        searcher.tell(made.id, "done", bad if number % 3 == 0 else value(made.values))
    assert searcher.best is not None and math.isfinite(searcher.best.value) and searcher.told == 24


@EACH
def test_a_pruned_trial_counts_by_rule(given: dict[str, Any]) -> None:
    for rule, counts in (("value", True), ("failed", False)):
        searcher = searchers.make({**given, "pruned": rule}, FLAT, {})
        made = searcher.ask()
        assert made is not None
        searcher.tell(made.id, "pruned", 4.0)
        assert (searcher.best is not None) == counts and searcher.told == 1


@EACH
def test_earlier_trials_count(given: dict[str, Any]) -> None:
    searcher = searchers.make(given, MIXED, {})
    best = {"x": 0.5, "n": 3, "q": 0.25, "kind": "b", "seed": 7}
    for number in range(12):
        searcher.add({**best, "x": 0.5 + number / 10}, "done", number / 10)
    searcher.add(best, "failed")
    assert searcher.best is not None and searcher.best.value == 0.0
    assert searcher.recommended == {**best, "seed": 3}
    assert run(searcher, 20, slots=2)
    with pytest.raises(ConfigError, match="n=9 is no number from"):
        searcher.add({**best, "n": 9}, "done", 0.0)


@EACH
def test_the_best_is_tried_again_by_key_and_counts_by_its_mean(given: dict[str, Any]) -> None:
    searcher = searchers.make({**given, "reevaluate": 4}, FLAT, {})
    first: Suggestion | None = None
    for number in range(5):
        made = searcher.ask()
        assert made is not None
        first = first or made
        searcher.tell(made.id, "done", float(number) if number < 4 else 3.0)
    assert first is not None and made is not None and made.values == first.values and made.repeat == 1
    assert searcher.best is not None and searcher.best.value == 1.0 and searcher.best.tries == 1
    assert run(searcher, 5)


@EACH
def test_no_try_of_the_best_is_made_twice(given: dict[str, Any]) -> None:
    """Several may be out at once, and one that fails is not the next one."""
    searcher, repeats = searchers.make({**given, "reevaluate": 1}, FLAT, {}), list[Suggestion]()
    first = searcher.ask()
    assert first is not None
    searcher.tell(first.id, "done", 0.0)
    while len(repeats) < 3:
        made = searcher.ask()
        assert made is not None
        if made.repeat:
            assert made.values == first.values
            repeats.append(made)
        else:
            searcher.tell(made.id, "done", 9.0)
    assert [made.repeat for made in repeats] == [1, 2, 3]
    searcher.tell(repeats[0].id, "failed")
    searcher.tell(repeats[1].id, "done", 3.0)
    assert searcher.best is not None and (searcher.best.value, searcher.best.tries) == (1.5, 2)
    while not (made := searcher.ask()) or not made.repeat:
        assert made is not None
        searcher.tell(made.id, "done", 9.0)
    assert made.repeat == 4


@EACH
def test_one_run_that_is_told_twice_counts_once(given: dict[str, Any]) -> None:
    space = Space({"n": {"low": 1, "high": 2, "int": True}})
    searcher = searchers.make({**given, "reevaluate": 9}, space, {})
    for _ in range(8):
        made = searcher.ask()
        if made is None:
            break
        searcher.tell(made.id, "done", float(made.values["n"]))
    assert searcher.best is not None and searcher.best.tries == 1


@EACH
def test_what_only_teaches_is_never_the_best(given: dict[str, Any]) -> None:
    searcher = searchers.make(given, FLAT, {})
    for number in range(12):
        searcher.add({"x": 0.5, "y": 0.1 + number / 10}, "done", number / 10, counts=False)
    assert searcher.best is None and searcher.recommended is None
    made = searcher.ask()
    assert made is not None
    searcher.tell(made.id, "done", 5.0)
    assert searcher.best is not None and searcher.best.value == 5.0


@EACH
def test_a_suggestion_that_was_never_made_is_a_bug(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="suggestion 0: was never made"):
        searchers.make(given, FLAT, {}).tell(0, "done", 1.0)


@EACH
def test_slots_may_come_and_go(given: dict[str, Any]) -> None:
    searcher, out, seen = searchers.make(given, MIXED, {}), list[Suggestion](), 0
    for slots in (2, 9, 30, 1, 4) * 2:
        while len(out) < slots and (made := searcher.ask()) is not None:
            out.append(made)
        while len(out) > slots // 2:
            suggestion = out.pop()
            searcher.tell(suggestion.id, "done", value(suggestion.values))
            seen += 1
    assert searcher.told == seen >= 20
