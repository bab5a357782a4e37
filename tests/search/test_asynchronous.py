"""CMA-ES without generations: every slot always busy, late values used, and the order of arrival decides alone."""

import heapq
import math
import random
from typing import Any

import pytest

from medtrain.config import parse
from medtrain.errors import TrainingError
from medtrain.evolution import EvolutionConfig, Point
from medtrain.search.asynchronous import Asynchronous


def config(**given: Any) -> EvolutionConfig:
    """A search of the unit square."""
    wanted: dict[str, Any] = {"start": [0.5, 0.5], "sigma": 0.25, "seed": 7, **given}
    return parse(EvolutionConfig, {**wanted, "bounds": [[0.0, 1.0]] * len(wanted["start"])})


def sphere(x: tuple[float, ...]) -> float:
    """Least at 0.3."""
    return sum((number - 0.3) ** 2 for number in x)


def race(search: Asynchronous, slots: int = 8, limit: int = 5000, objective: Any = sphere) -> list[int]:
    """Trials of times from 1 to 10 on a simulated clock; the order in which they ended."""
    times, heap, order, now = random.Random(1), list[tuple[float, int, Point]](), list[int](), 0.0
    while len(order) < limit and not search.finished:
        while len(heap) < slots:
            point = search.next()
            assert point is not None  # a slot never waits
            heapq.heappush(heap, (now + times.uniform(1, 10), point.id, point))
        now, _, point = heapq.heappop(heap)
        order.append(point.id)
        search.record(point.id, objective(point.x))
    return order


@pytest.mark.parametrize("slots", [1, 3, 8, 40])
def test_every_slot_is_busy_and_it_converges(slots: int) -> None:
    search = Asynchronous(config(target=1e-8))
    order = race(search, slots)
    assert search.finished == "target" and search.best is not None and search.best.value <= 1e-8
    assert len(order) < 2000
    assert search.mean == pytest.approx((0.3, 0.3), abs=1e-2) and search.next() is None


def test_the_order_of_arrival_decides_alone() -> None:
    first = Asynchronous(config(start=[0.5] * 3))
    points, values = dict[int, Point](), list[tuple[int, int]]()
    order = random.Random(3)
    for _ in range(300):
        while len(points) < 8:
            point = first.next()
            assert point is not None
            points[point.id] = point
            values.append((0, point.id))
        id = order.choice(list(points))
        first.record(id, sphere(points.pop(id).x))
        values.append((1, id))
    again, seen = Asynchronous(config(start=[0.5] * 3)), dict[int, Point]()
    for told, id in values:
        if told:
            again.record(id, sphere(seen[id].x))
        else:
            point = again.next()
            assert point is not None and point.id == id
            seen[id] = point
    assert (again.mean, again.sigma, again.best) == (first.mean, first.sigma, first.best)
    other = Asynchronous(config(start=[0.5] * 3))
    drawn = [other.next() for _ in range(40)]
    for point in reversed(drawn):
        assert point is not None
        other.record(point.id, sphere(point.x))
    assert other.mean != first.mean


def test_max_is_min_of_the_negative() -> None:
    low, high = Asynchronous(config(target=1e-4)), Asynchronous(config(target=-1e-4, mode="max"))
    assert race(low) == race(high, objective=lambda x: -sphere(x))
    assert low.mean == high.mean and high.best is not None and high.best.value >= -1e-4


@pytest.mark.parametrize("failed", ["penalty", "median"])
def test_a_third_of_failures_does_not_stop_it(failed: str) -> None:
    kinds = [None, math.nan, math.inf, -math.inf]

    def often(x: tuple[float, ...]) -> float | None:
        number = int(x[0] * 1e9)
        return kinds[number % 4] if number % 3 == 0 else sphere(x)

    search = Asynchronous(config(target=1e-6, failed=failed))
    race(search, objective=often)
    assert search.finished == "target"


def test_a_region_that_fails_is_left() -> None:
    search = Asynchronous(config())
    race(search, limit=150, objective=lambda x: None if x[0] > 0.45 else (x[0] - 0.5) ** 2 + (x[1] - 0.5) ** 2)
    points = [search.next() for _ in range(100)]
    assert sum(point is not None and point.x[0] > 0.45 for point in points) < 75
    assert search.best is not None and search.best.value < 4e-3


def test_where_all_fail_it_says_so() -> None:
    search = Asynchronous(config())
    with pytest.raises(TrainingError, match="the last 12 trials failed, all of them"):
        race(search, objective=lambda x: None)


@pytest.mark.parametrize("kind", ["ipop", "bipop"])
def test_a_converged_search_begins_again_and_values_of_the_run_before_count_as_the_best(kind: str) -> None:
    search, seen = Asynchronous(config(restarts=1, restart_kind=kind)), 0
    held = search.next()
    assert held is not None
    points = [search.next() for _ in range(8)]
    while not search.restarted:
        point = points.pop(0)
        assert point is not None and seen < 3000
        search.record(point.id, sphere(point.x))
        points.append(search.next())
        seen += 1
    sigma, mean = search.sigma, search.mean
    assert sphere(mean) < 1e-6, "the run before has found more than this one knows"
    assert not search.record(held.id, -1.0)
    assert search.best is not None and search.best.value == -1.0 and (search.sigma, search.mean) == (sigma, mean)
    race(search)
    assert search.finished == "tolx" and search.restarted == 1


def test_values_on_a_grid_never_freeze() -> None:
    search = Asynchronous(config(start=[0.1, 0.5]), cells=(10, 0))
    race(search, limit=150, objective=lambda x: abs(math.floor(x[0] * 10) - 7) + (x[1] - 0.2) ** 2)
    points = [search.next() for _ in range(60)]
    cells = [math.floor(point.x[0] * 10) for point in points if point is not None]
    assert len(set(cells)) > 1 and cells.count(7) > 30


def test_a_stranger_s_value_is_learned_from() -> None:
    search = Asynchronous(config())
    for number in range(40):
        search.add((0.9, 0.1 + number / 1000), number / 1000)
    assert search.best is not None and search.best.x == (0.9, 0.1)
    assert search.mean[0] > 0.6 and search.mean[1] < 0.4
