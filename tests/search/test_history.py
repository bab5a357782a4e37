"""Ellipses are those that the points were drawn from, and finding them leaves the search as it was."""

import random
from typing import Any

import numpy as np
import pytest

from medtrain.search import history
from medtrain.search.journal import Recorded
from medtrain.search.searcher import Suggestion

SPACE = {"x": {"low": -1.0, "high": 1.0}, "y": {"low": 1e-3, "high": 1.0, "log": True}}
MIXED = {**SPACE, "n": {"low": 1, "high": 9, "int": True}}
ASYNCHRONOUS: dict[str, Any] = {"kind": "cmaes", "seed": 3}
GENERATIONAL = {**ASYNCHRONOUS, "timing": "generational", "population": 6}


def run(search: Recorded, trials: int, slots: int = 3) -> Recorded:
    """Least at x = 0.4, y = 0.01; some are lost, some fail, in any order."""
    order, out = random.Random(1), list[Suggestion]()
    while search.search.told < trials:
        while len(out) < slots and (made := search.ask()) is not None:
            out.append(made)
        suggestion = out.pop(order.randrange(len(out)))
        values = suggestion.values
        found = (values["x"] - 0.4) ** 2 + 0.1 * float(np.log(values["y"] / 0.01)) ** 2
        how = order.choices(["done", "failed", "lost"], [9, 0.5, 0.5])[0]
        search.tell(suggestion.id, how, found)  # type: ignore[arg-type]
    return search


@pytest.mark.parametrize("given", [ASYNCHRONOUS, GENERATIONAL], ids=["asynchronous", "generational"])
@pytest.mark.parametrize("space", [SPACE, MIXED], ids=["ranges", "mixed"])
def test_from_the_first_to_the_last_and_the_search_stays_as_it_is(given: dict[str, Any], space: dict[str, Any]) -> None:
    search = run(Recorded(given, space, {}), 100)
    events, best = list(search.events), search.search.best
    found = history.ellipses(search)
    assert search.events == events and search.search.best == best
    assert [ellipse.update for ellipse in found] == list(range(len(found)))
    first, last, shape = found[0], found[-1], search.search.shape
    assert shape is not None
    np.testing.assert_allclose(last.mean, shape[0], rtol=1e-12)
    np.testing.assert_allclose(last.covariance, shape[1], rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(first.mean, 0.5, atol=1e-9)
    wide = [0.25, 0.25, 0.25 * 8 / 9][: len(space)] if "timing" in given else [0.25] * len(space)
    np.testing.assert_allclose(np.sqrt(np.diag(first.covariance)), wide, rtol=1e-3)
    np.testing.assert_allclose(last.mean[:2], [0.7, 1 / 3], atol=0.1)
    assert np.linalg.det(last.covariance[:2, :2]) < 0.2 * np.linalg.det(first.covariance[:2, :2])


def test_one_for_each_generation() -> None:
    search = run(Recorded(GENERATIONAL, SPACE, {}), 60)
    assert len(history.ellipses(search)) == 1 + search.search.told // 6


def test_a_search_without_a_distribution_has_none() -> None:
    assert history.ellipses(run(Recorded({"kind": "random", "seed": 1}, SPACE, {}), 10)) == []
    assert history.ellipses(Recorded(ASYNCHRONOUS, SPACE, {})) == []


@pytest.mark.parametrize("given", [ASYNCHRONOUS, GENERATIONAL], ids=["asynchronous", "generational"])
def test_points_are_drawn_from_the_last_ellipse(given: dict[str, Any]) -> None:
    """Means and covariances of what is suggested next, of many continuations that differ in nothing but the seed."""
    drawn: list[tuple[float, ...]] = []
    search = run(Recorded(given, SPACE, {}), 90, slots=6)
    shape = search.search.shape
    assert shape is not None
    inner: Any = search.search._search  # type: ignore[attr-defined]
    for _ in range(1500 if "timing" in given else 6000):
        drawn += [inner._distribution.draw().x] if "timing" not in given else inner._strategy.ask()
    points = np.array(drawn)
    deviations = np.sqrt(np.diag(shape[1]))
    assert ((shape[0] - 3 * deviations > 0) & (shape[0] + 3 * deviations < 1)).all()  # nowhere near a mirror
    np.testing.assert_allclose(points.mean(axis=0), shape[0], atol=0.1 * deviations.min())
    np.testing.assert_allclose(np.cov(points.T), shape[1], atol=0.12 * deviations.max() ** 2)
