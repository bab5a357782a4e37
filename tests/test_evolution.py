"""The CMA-ES core: any order of evaluation, any kill and any failure give the points that stock pycma would."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import cma
import numpy as np
import pytest

from medtrain.config import parse
from medtrain.errors import ConfigError, IdentityMismatch, TrainingError
from medtrain.evolution import Evolution, EvolutionConfig, Point

Objective = Callable[[tuple[float, ...]], float | None]
MIXED: dict[str, Any] = {"start": [0.5, 2.0, 0.5], "bounds": [[0.0, 1.0], [0.0, 6.0], [0.0, 1.0]], "integers": [1]}

RESTARTED: dict[str, Any] = {"restarts": 1, "start": [0.0], "sigma": 1e-10, "tried_first": [[1e-9]]}
BIPOP: dict[str, Any] = {**RESTARTED, "restarts": 2, "restart_kind": "bipop"}


@pytest.fixture(autouse=True)
def _global_numbers() -> Iterator[None]:
    """Stock pycma seeds numpy's global generator."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def config(**given: Any) -> EvolutionConfig:
    """A search in two coordinates with seed 7 and sigma 0.5, unless told otherwise."""
    return parse(EvolutionConfig, {"start": [1.0, 2.0], "sigma": 0.5, "seed": 7, **given})


def sphere(x: tuple[float, ...]) -> float:
    """Least at 0."""
    return sum(number**2 for number in x)


def ellipsoid(x: tuple[float, ...]) -> float:
    """Least at 0; its axes differ by a thousand."""
    return sum(1e3 ** (i / (len(x) - 1)) * number**2 for i, number in enumerate(x))


def rosenbrock(x: tuple[float, ...]) -> float:
    """Least at 1, at the end of a narrow valley."""
    return sum(100 * (a * a - b) ** 2 + (a - 1) ** 2 for a, b in itertools.pairwise(x))


def fails_often(x: tuple[float, ...]) -> float | None:
    """A third of the plane has no value, of four kinds."""
    kind = int(abs(x[0] * 1e6)) % 12
    return {0: None, 1: math.nan, 2: math.inf, 3: -math.inf}.get(kind, sphere(x))


def run(search: Evolution, objective: Objective, seen: list[Point] | None = None, limit: int = 10**6) -> Evolution:
    """Evaluate one point after the other."""
    for _ in range(limit):
        point = search.next()
        if point is None:
            break
        if seen is not None:
            seen.append(point)
        search.record(point.id, objective(point.x))
    return search


@pytest.mark.parametrize("objective", [sphere, ellipsoid, rosenbrock])
@pytest.mark.parametrize("dimension", [2, 5])
def test_it_is_stock_pycma_evaluation_by_evaluation_to_the_least_value(objective: Any, dimension: int) -> None:
    seen: list[Point] = []
    search = run(Evolution(config(start=[1.5] * dimension, target=1e-8)), objective, seen)
    assert search.finished == "target" and search.best is not None and search.best.value <= 1e-8
    options = {"seed": 7, "verbose": -9, "ftarget": 1e-8, "tolfun": 0, "tolfunhist": 0}
    stock, points = cma.CMAEvolutionStrategy([1.5] * dimension, 0.5, options), []
    while not stock.stop():
        asked = stock.ask()
        points += [tuple(x) for x in asked]
        stock.tell(asked, [objective(tuple(x)) for x in asked])
    assert [point.x for point in seen] == points
    assert [point.id for point in seen] == list(range(len(points)))
    assert search.best.x == tuple(stock.best.x) and search.mean == tuple(stock.result.xfavorite)


@pytest.mark.parametrize("workers", [1, 2, 4, 20])
@pytest.mark.parametrize("objective", [sphere, fails_often])
def test_the_order_of_the_answers_does_not_matter(objective: Objective, workers: int) -> None:
    given = config(max_generations=8, **MIXED)
    wanted = run(Evolution(given), objective)
    order = random.Random(workers)
    search, out = Evolution(given), dict[int, Point]()
    while not search.finished:
        while len(out) < workers and (point := search.next()) is not None:
            assert point.id not in out
            out[point.id] = point
        lost = order.random() < 0.1
        id = order.choice(list(out))
        point = out.pop(id)
        if lost:
            search.lost(id)
        else:
            search.record(id, objective(point.x))
    assert search.told == wanted.told and search.best == wanted.best and search.mean == wanted.mean


@pytest.mark.parametrize(
    ("given", "objective", "kills"),
    [
        ({**MIXED, "max_generations": 4}, sphere, range(0, 29, 2)),
        ({**MIXED, "max_generations": 4}, fails_often, range(0, 30, 3)),
        ({"mode": "max", "max_generations": 4}, fails_often, range(1, 26, 5)),
        (RESTARTED, sphere, (3, 30, 45, 60)),
    ],
    ids=["integers", "failures", "max", "restarts"],
)
def test_a_search_killed_anywhere_goes_on_bit_for_bit(given: dict[str, Any], objective: Objective, kills: Any) -> None:
    whole = run(Evolution(config(**given)), objective)
    assert whole.finished and whole.restarted == given.get("restarts", 0)
    for at in kills:
        search = run(Evolution(config(**given)), objective, limit=at)
        handed = []
        for kill in ("recorded", "asked"):
            log = json.dumps(search.state(), allow_nan=False)
            again = Evolution.resume(config(**given), json.loads(log))
            assert json.dumps(again.state(), allow_nan=False) == log
            assert [again.next() for _ in handed] == handed
            for point in handed:
                if point is not None:
                    again.lost(point.id)
            run(again, objective)
            assert (again.told, again.best, again.mean) == (whole.told, whole.best, whole.mean), kill
            assert (again.finished, again.restarted) == (whole.finished, whole.restarted)
            handed = [search.next(), search.next()]


def test_points_that_were_handed_out_count_to_the_last_bit_and_a_damaged_log_is_refused() -> None:
    search = run(Evolution(config()), sphere, limit=20)
    state = search.state()
    state["open"]["points"][5][0] = math.nextafter(state["open"]["points"][5][0], 9)
    again = Evolution.resume(config(), state)
    points = [again.next() for _ in range(4)]
    assert points[-1] is not None and points[-1].x == tuple(state["open"]["points"][5])
    state["open"]["points"][5][0] += 1e-3
    with pytest.raises(IdentityMismatch, match="open points"):
        Evolution.resume(config(), state)


def test_a_late_value_changes_nothing_and_an_unknown_point_is_a_bug() -> None:
    search = Evolution(config())
    first = search.next()
    assert first is not None
    assert not search.record(first.id, 1.0) and not search.record(first.id, 2.0)
    search.lost(first.id)
    second = search.next()
    assert second is not None and second.id == 1
    search.lost(second.id)
    assert search.next() == second
    search.lost(second.id)
    run(search, sphere, limit=5)
    assert search.told[0][0] == 1.0
    assert not search.record(first.id, 3.0)
    with pytest.raises(ValueError, match="never handed out"):
        search.record(99, 1.0)


def test_a_failed_point_is_tried_again_and_then_worse_than_the_worst() -> None:
    told = dict[str, Any]()
    for failed in ("penalty", "median"):
        search, tries = Evolution(config(failed=failed)), 0
        values = [5.0, 3.0, 1.0, 9.0, 4.0]
        while len(search.told) < 1:
            point = search.next()
            assert point is not None
            tries += point.id == 0
            search.record(point.id, None if point.id == 0 else values[point.id - 1])
        assert tries == 2 and search.told == [[None, *values]]
        told[failed] = search.next()
    for failed, instead in (("penalty", 9.0 + 0.1 * 8.0), ("median", 4.0)):
        search = Evolution(config())
        asked = [search.next() for _ in range(6)]
        for point, value in zip(asked, [instead, *values], strict=True):
            assert point is not None
            search.record(point.id, value)
        assert told[failed] == search.next()


def test_the_median_is_what_pycma_makes_of_nan() -> None:
    """But for a None in the first place, on which pycma 4.5.0 fails."""
    search = Evolution(config(failed="median", retries=0))
    stock = cma.CMAEvolutionStrategy([1.0, 2.0], 0.5, {"seed": 7, "verbose": -9})
    for _ in range(5):
        asked = stock.ask()
        for x in asked:
            point = search.next()
            assert point is not None and point.x == tuple(x)
            search.record(point.id, fails_often(point.x))
        values = [fails_often(tuple(x)) for x in asked]
        stock.tell(asked, [v if v is not None and math.isfinite(v) else math.nan for v in values])


def test_with_too_few_values_the_failed_are_tried_once_more_and_then_named() -> None:
    for good, tries in ((2, 4), (0, 4)):
        search, seen = Evolution(config()), list[Point]()
        with pytest.raises(TrainingError, match=rf"{6 - good} of 6 points of generation 0 failed 4 times each"):
            for _ in range(100):
                point = search.next()
                assert point is not None
                seen.append(point)
                search.record(point.id, sphere(point.x) if point.id < good else math.nan)
        assert [sum(p.id == id for p in seen) for id in range(6)] == [1] * good + [tries] * (6 - good)
        assert search.told == [] and search.next() is None
        # Whoever has mended the cause goes on from the log with the same points.
        again = run(Evolution.resume(config(max_generations=3), json.loads(json.dumps(search.state()))), sphere)
        assert again.told == run(Evolution(config(max_generations=3)), sphere).told


def test_fewer_values_may_be_enough() -> None:
    for needed, told in ((1, 1), (3, 0)):
        search = Evolution(config(needed=needed, retries=0))
        for _ in range(6):
            point = search.next()
            assert point is not None
            search.record(point.id, 1.0 if point.id == 4 else None)
        assert len(search.told) == told


def test_a_kill_while_the_failed_are_tried_once_more_changes_nothing() -> None:
    def steps(search: Evolution, tried: dict[int, int], limit: int = 99) -> Evolution:
        """Of six points two always fail, and two more three times each."""
        while not search.told and limit:
            limit -= 1
            point = search.next()
            assert point is not None
            tried[point.id] = tried.get(point.id, 0) + 1
            search.record(point.id, None if point.id < 2 or (point.id < 4 and tried[point.id] < 4) else 1.0)
        return search

    whole = steps(Evolution(config()), {})
    assert whole.told == [[None] * 2 + [1.0] * 4]
    for at in range(18):
        tried = dict[int, int]()
        killed = steps(Evolution(config()), tried, at)
        again = steps(Evolution.resume(config(), json.loads(json.dumps(killed.state()))), tried)
        assert again.told == whole.told and tried == {0: 4, 1: 4, 2: 4, 3: 4, 4: 1, 5: 1}


def test_max_is_min_of_the_negative() -> None:
    low = run(Evolution(config(max_generations=9, target=1e-3)), sphere)
    high = run(Evolution(config(max_generations=9, target=-1e-3, mode="max")), lambda x: -sphere(x))
    assert low.mean == high.mean and low.best is not None and high.best is not None
    assert low.best.value == -high.best.value and low.finished == high.finished


def test_restarts_double_the_population_and_go_on_with_counters_and_numbers() -> None:
    for place in ("start", "best"):
        seen: list[Point] = []
        search = run(Evolution(config(restarts=2, restart_from=place)), sphere, seen)
        sizes = [len(values) for values in search.told]
        assert sorted(set(sizes)) == [6, 12, 24] and sizes == sorted(sizes)
        assert search.restarted == 2 and "tolx" in search.finished
        assert [point.id for point in seen] == list(range(sum(sizes)))
        anew = np.array([point.x for point in seen[6 * sizes.count(6) :][:12]]).mean(0)
        assert (float(np.abs(anew).max()) > 0.5) == (place == "start")


@pytest.mark.parametrize("kind", ["ipop", "bipop"])
def test_a_restart_does_not_forget_where_the_search_has_converged(kind: str) -> None:
    search = Evolution(config(restarts=1, restart_kind=kind))
    while not search.restarted:
        run(search, sphere, limit=1)
    assert sphere(search.mean) < 1e-6 < 1 < sphere(search.shape[0].tolist())
    again = Evolution.resume(search.config, json.loads(json.dumps(search.state())))
    assert again.mean == search.mean
    run(search, lambda x: sphere(x) - 9.0, limit=12)
    assert search.mean == pytest.approx(tuple(search.shape[0])) and search.mean != again.mean, "the new run is better"


def test_bipop_s_small_runs_begin_nearer_and_end_early() -> None:
    given = config(restarts=2, restart_kind="bipop", start=[0.0, 0.0], sigma=1e-6)
    search = run(Evolution(given), sphere)
    sizes = [len(values) for values in search.told]
    large = [sizes.index(12), sizes.index(24)]
    assert search.restarted == 3 and "tolx" in search.finished
    between = [size for size in sizes[large[0] : large[1]] if size != 12]
    assert set(between) == {11} and sum(between) >= sizes.count(12) * 12 // 2
    state = json.dumps(run(Evolution(given), sphere, limit=900).state())
    again = run(Evolution.resume(given, json.loads(state)), sphere)
    assert again.told == search.told and again.restarted == search.restarted


def test_budgets_are_not_passed_and_may_change_between_runs() -> None:
    search = run(Evolution(config(max_evaluations=20)), sphere)
    assert search.finished == "max_evaluations" and sum(map(len, search.told)) == 18
    more = run(Evolution.resume(config(max_evaluations=40), search.state()), sphere)
    assert more.told == run(Evolution(config(max_generations=6)), sphere).told
    assert more.finished == "max_evaluations"


def test_the_log_of_another_search_is_refused() -> None:
    state = run(Evolution(config(), {"lr": "log"}), sphere, limit=8).state()
    Evolution.resume(config(), state, {"lr": "log"})
    for given, space in (({}, {"lr": "linear"}), ({"sigma": 0.4}, {"lr": "log"}), ({"seed": 8}, {"lr": "log"})):
        with pytest.raises(IdentityMismatch, match="go on with the config, space and version of the log"):
            Evolution.resume(config(**given), state, space)
    state["made_by"]["pycma"] = "4.4.0"
    with pytest.raises(IdentityMismatch, match=r"4\.4\.0"):
        Evolution.resume(config(), state, {"lr": "log"})


def test_a_budget_below_a_generation_is_refused() -> None:
    with pytest.raises(ConfigError, match="below one generation of 6 points"):
        config(max_evaluations=5)
