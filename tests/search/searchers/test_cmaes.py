"""CMA-ES as a searcher: pycma's own points by generations, every kind of parameter, failures, warm starts, restarts."""

import math
import random
from typing import Any

import cma
import numpy as np
import pytest

from medtrain.errors import ConfigError, TrainingError
from medtrain.search import searchers
from medtrain.search.searcher import Searcher, Suggestion
from medtrain.search.space import Space, Values

SPACE = Space({"a": {"low": -5.0, "high": 5.0}, "b": {"low": 1e-4, "high": 1.0, "log": True}, "c": {"fixed": 1}})
TIMINGS = pytest.mark.parametrize("timing", ["asynchronous", "generational"])


def sphere(values: Values) -> float:
    """Least at a = 1, b = 0.01."""
    return float((values["a"] - 1) ** 2 + math.log10(values["b"] / 0.01) ** 2)


def made(space: Space = SPACE, base: dict[str, Any] | None = None, **given: Any) -> Searcher:
    """A CMA-ES searcher."""
    return searchers.make({"kind": "cmaes", "seed": 5, **given}, space, base or {})


def run(searcher: Searcher, objective: Any, count: int, slots: int = 1) -> list[Suggestion]:
    """So many trials, in a random order of ending; the suggestions."""
    order, out, seen = random.Random(2), list[Suggestion](), list[Suggestion]()
    while searcher.told < count and not searcher.finished:
        while len(out) < slots and (suggestion := searcher.ask()) is not None:
            out.append(suggestion)
            seen.append(suggestion)
        suggestion = out.pop(order.randrange(len(out)))
        value = objective(suggestion.values)
        searcher.tell(suggestion.id, "failed" if value is None else "done", value)
    return seen


@pytest.mark.parametrize("slots", [1, 4, 30])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_by_generations_its_points_are_pycma_s_evaluation_by_evaluation(slots: int, mode: str) -> None:
    sign = 1.0 if mode == "min" else -1.0
    seen = run(made(timing="generational", mode=mode, population=8), lambda values: sign * sphere(values), 240, slots)
    state = np.random.get_state()
    stock = cma.CMAEvolutionStrategy(
        [0.5, 0.5], 0.25, {"seed": 5, "popsize": 8, "bounds": [[0, 0], [1, 1]], "verbose": -9}
    )
    wanted = []
    for _ in range(30):
        asked = stock.ask()
        wanted += [SPACE.values(x) for x in asked]
        stock.tell(asked, [sphere(SPACE.values(x)) for x in asked])
    np.random.set_state(state)
    assert [suggestion.values for suggestion in seen] == wanted


@TIMINGS
def test_it_begins_at_the_base_s_own_values_or_at_those_given(timing: str) -> None:
    base = {"a": 3.0, "b": 7.0}
    for given, wanted in (({}, (3.0, 1e-2)), ({"start": {"b": 0.1}}, (3.0, 0.1))):
        first = run(made(base=base, timing=timing, sigma=0.01, **given), sphere, 12, 6)
        values = np.array([(s.values["a"], math.log10(s.values["b"])) for s in first])
        np.testing.assert_allclose(values.mean(axis=0), (wanted[0], math.log10(wanted[1])), atol=0.2)
        assert values.std(axis=0) == pytest.approx((0.1, 0.04), rel=0.7)
    with pytest.raises(ConfigError, match="'z' is no parameter of the space"):
        made(start={"z": 1})


MIXED = Space(
    {
        "layers": {"low": 1, "high": 32, "int": True},
        "rank": {"low": 1, "high": 256, "log": True, "int": True},
        "dropout": {"low": 0.0, "high": 0.5, "step": 0.05},
        "kind": {"choices": ["lora", "adalora", "moe"]},
        "lr": {"low": 1e-5, "high": 1e-2, "log": True},
    }
)


def mixed(values: Values) -> float:
    """Least 0 at 24 layers, rank 16, dropout 0.1, adalora, lr 1e-3."""
    kinds = {"lora": 0.3, "adalora": 0.0, "moe": 0.6}
    found = ((values["layers"] - 24) / 8) ** 2 + math.log2(values["rank"] / 16) ** 2 / 4
    found += ((values["dropout"] - 0.1) / 0.1) ** 2 + math.log10(values["lr"] / 1e-3) ** 2
    return float(found + kinds[values["kind"]])


@TIMINGS
def test_every_kind_of_parameter_is_found(timing: str) -> None:
    searcher = made(MIXED, timing=timing, seed=1)
    run(searcher, mixed, 700, 8)
    assert searcher.best is not None
    found = searcher.best.values
    assert (found["layers"], found["kind"]) == (24, "adalora")
    assert found["rank"] in range(14, 19) and found["dropout"] == pytest.approx(0.1)
    assert math.log10(found["lr"]) == pytest.approx(-3, abs=0.1)


def test_more_than_four_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a has more than 4 choices.*searcher\.kind: random"):
        made(Space({"a": {"choices": [1, 2, 3, 4, 5]}}))


@TIMINGS
def test_failures_by_rule(timing: str) -> None:
    """A third of the space fails, and a tenth of the rest."""
    draw = random.Random(1)

    def often(values: Values) -> float | None:
        return None if values["a"] > 2 or draw.random() < 0.1 else sphere(values)

    searcher = made(timing=timing, target=1e-6, retries=1)
    run(searcher, often, 1500, 8)
    assert searcher.finished == "target"
    with pytest.raises(TrainingError, match="failed"):
        run(made(timing=timing), lambda values: None, 100)


@TIMINGS
def test_earlier_trials_say_where_to_begin(timing: str) -> None:
    draw, near = np.random.default_rng(0), 0
    searcher = made(timing=timing)
    for _ in range(100):
        values = SPACE.values(draw.random(2).tolist())
        searcher.add(values, "done", sphere(values))
    for suggestion in run(searcher, sphere, 12, 6):
        near += abs(suggestion.values["a"] - 1) < 3 and 1e-3 < suggestion.values["b"] < 0.1
    assert near >= 10
    # Told later, asynchronous search learns of them and generations go on undisturbed.
    searcher.add({"a": 1.0, "b": 0.01}, "done", 0.0)
    assert searcher.best is not None and searcher.best.value == 0.0 and searcher.ask() is not None


@TIMINGS
@pytest.mark.parametrize("kind", ["ipop", "bipop"])
def test_restarts_leave_a_local_optimum(timing: str, kind: str) -> None:
    def rastrigin(values: Values) -> float:
        x = np.array([values["a"] - 1.3, 5 * math.log10(values["b"] / 0.01)])
        return float((x**2 + 10 - 10 * np.cos(2 * np.pi * x)).sum())

    for restarts, end in ((0, "tolx"), (2, "target")):
        searcher = made(timing=timing, restarts=restarts, restart_kind=kind, target=1e-3, seed=1)
        run(searcher, rastrigin, 3000, 8)
        assert searcher.finished == end


@TIMINGS
def test_where_values_are_noisy_the_mean_is_recommended(timing: str) -> None:
    draw = random.Random(3)
    searcher = made(timing=timing, noisy=True, population=10, reevaluate=10)
    seen = run(searcher, lambda values: sphere(values) + draw.gauss(0, 0.3), 300, 8)
    assert sum(suggestion.repeat > 0 for suggestion in seen) in range(18, 31)
    assert searcher.recommended is not None and searcher.best is not None
    assert sphere(searcher.recommended) < 0.1 and searcher.recommended["c"] == 1


def test_the_best_by_luck_is_found_out() -> None:
    searcher = made(noisy=False, reevaluate=3)
    for number in range(4):
        suggestion = searcher.ask()
        assert suggestion is not None
        searcher.tell(suggestion.id, "done", (-9.0, 1.0, 2.0, 30.0)[number])
    assert suggestion.repeat == 1 and searcher.best is not None and searcher.best.value == 1.0
