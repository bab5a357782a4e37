"""pycma kept to itself: the points are those of stock pycma, and nothing outside of the search is read or changed."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cma
import numpy as np
import pytest

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.strategy import Strategy, StrategyConfig

SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {"start": [1.0, 2.0, 3.0]},
    "one": {"start": [1.0]},
    "population": {"start": [0.5] * 12, "population": 16},
    "scales": {"start": [1.0, 2.0], "scales": [0.1, 10.0]},
    "bounds": {"start": [0.5, 0.1, 0.9], "bounds": [[0.0, 1.0]] * 3},
    "integers": {"start": [3.0, 0.5, 3.5], "bounds": [[0.0, 4.0], [0.0, 1.0], [3.0, 9.0]], "integers": [0, 2]},
}


@pytest.fixture(autouse=True)
def _global_numbers() -> Iterator[None]:
    """Stock pycma seeds numpy's global generator."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def config(**given: Any) -> StrategyConfig:
    """A search with seed 7 and sigma 0.5."""
    return parse(StrategyConfig, {"sigma": 0.5, "seed": 7, **given})


def made(given: StrategyConfig) -> Strategy:
    """Its strategy."""
    return Strategy(given, np.random.RandomState(given.seed), given.start, given.first_population)


def ellipsoid(x: Any) -> float:
    """Its axes differ by a thousand; its least value is at 0.3."""
    return float(sum(1e3 ** (i / max(1, len(x) - 1)) * (number - 0.3) ** 2 for i, number in enumerate(x)))


@pytest.mark.parametrize("search", SEARCHES)
def test_its_points_are_those_of_stock_pycma_with_the_same_seed(search: str) -> None:
    given = config(**SEARCHES[search])
    ours = made(given)
    mine = [ours.ask()]
    for _ in range(25):
        ours.tell([ellipsoid(x) for x in mine[-1]])
        mine.append(ours.ask())
    options: dict[str, Any] = {"seed": 7, "popsize": given.first_population, "integer_variables": list(given.integers)}
    if given.bounds:
        options["bounds"] = [list(side) for side in zip(*given.bounds, strict=True)]
    if given.scales:
        options["CMA_stds"] = list(given.scales)
    stock = cma.CMAEvolutionStrategy(list(given.start), 0.5, {**options, "verbose": -9})
    for generation in mine:
        theirs = stock.ask()
        assert [list(x) for x in theirs] == [list(x) for x in generation]
        stock.tell(theirs, [ellipsoid(x) for x in theirs])
    assert ours.sigma > 0 and ours.population == given.first_population
    assert all(x[i] == round(x[i]) for x in [*mine[-1], ours.mean] for i in given.integers)


@pytest.mark.parametrize("search", ["plain", "integers"])
def test_searches_disturb_neither_each_other_nor_the_global_numbers(search: str) -> None:
    def points(disturbed: bool) -> list[Any]:
        given = config(**SEARCHES[search])
        ours, other = made(given), made(given.model_copy(update={"seed": 8}))
        found = []
        for _ in range(15):
            found.append(ours.ask())
            if disturbed:
                other.tell([ellipsoid(x) for x in other.ask()])
                np.random.rand(3)
            ours.tell([ellipsoid(x) for x in found[-1]])
        return found

    np.random.seed(1)
    np.random.randn()  # leaves a second number in store, which must be the next one
    before: Any = np.random.get_state()
    alone = points(disturbed=False)
    after: Any = np.random.get_state()
    assert np.array_equal(before[1], after[1]) and before[2:] == after[2:]
    assert points(disturbed=True) == alone


@pytest.mark.parametrize("search", ["plain", "bounds"])
def test_points_tried_first_are_the_first_as_they_stand(search: str) -> None:
    tried = ((0.25, 0.5, 0.75), (0.0, 1.0, 0.1))
    given = config(**SEARCHES[search], tried_first=tried)
    ours = made(given)
    ours.try_first(given.tried_first)
    first = ours.ask()
    assert tuple(first[:2]) == tried and len(first) == 7
    # pycma itself has the same points, so that it learns of the right ones.
    np.testing.assert_allclose(ours._asked[:2], tried, atol=1e-12)
    ours.tell([ellipsoid(x) for x in first])
    assert len(ours.ask()) == 7 and not set(tried) & set(ours.ask())


def test_no_file_is_read_or_written_and_no_word_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = made(config(**SEARCHES["integers"]))
        for _ in range(5):
            ours.tell([ellipsoid(x) for x in ours.ask()])
    assert ours.stopped == ""
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]
    assert capsys.readouterr() == ("", "")


def test_a_flat_objective_is_no_convergence() -> None:
    ours = made(config(start=[0.0] * 12))
    for _ in range(100):
        ours.tell([1.0] * len(ours.ask()))
        assert ours.stopped == "" and ours.sigma > 0.01


def test_it_stops_where_nothing_moves_any_more() -> None:
    ours = made(config(start=[0.2, 0.2]))
    while not ours.stopped:
        ours.tell([ellipsoid(x) for x in ours.ask()])
    assert "tolx" in ours.stopped
    assert ours.mean == pytest.approx((0.3, 0.3), abs=1e-8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": []}, "at least 1"),
        ({"sigma": 0.0}, "greater than 0"),
        ({"start": [math.nan, 0.0]}, "finite"),
        ({"scales": [1.0]}, "scales has 1 entries for 2"),
        ({"bounds": [[0.0, 1.0]]}, "bounds has 1 entries for 2"),
        ({"bounds": [[0.0, 1.0], [1.0, 1.0]]}, "lower bound below"),
        ({"bounds": [[0.0, 1.0], [3.0, 4.0]]}, "within their bounds"),
        ({"integers": [2]}, "from 0 to 1"),
        ({"tried_first": [[1.0]]}, "not 2 numbers"),
        ({"tried_first": [[1.0, 0.5]], "integers": [1]}, "must be whole numbers"),
        ({"tried_first": [[1.0, 1.0]] * 6}, "population must be above"),
        ({"population": 3}, "greater than or equal to 4"),
    ],
)
def test_a_search_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**{"start": [0.5, 0.5], **given})


def test_its_shape_is_that_of_its_points() -> None:
    ours = made(config(start=[0.5, 50.0], scales=[1.0, 100.0], sigma=0.05, bounds=[[0.0, 1.0], [0.0, 100.0]]))
    for _ in range(6):
        ours.tell([10 * (x - y / 100) ** 2 + (x - 0.5) ** 2 for x, y in ours.ask()])
    mean, covariance = ours.shape
    assert covariance[0, 1] ** 2 > 0.2 * covariance[0, 0] * covariance[1, 1]
    points = np.array([x for _ in range(900) for x in ours.ask()])
    deviations = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(points.mean(axis=0) / deviations, mean / deviations, atol=0.06)
    scaled = np.outer(deviations, deviations)
    np.testing.assert_allclose(np.cov(points.T) / scaled, covariance / scaled, atol=0.08)


@pytest.mark.parametrize("start", [0.0, 0.02, 0.98, 1.0])
def test_its_shape_at_a_bound_is_no_line(start: float) -> None:
    ours = made(config(start=[start, 0.5], sigma=0.1, bounds=[[0.0, 1.0]] * 2))
    mean, covariance = ours.shape
    points = np.array([x for _ in range(400) for x in ours.ask()])
    assert mean[0] == pytest.approx(start, abs=0.02)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(points.std(axis=0), rel=0.15)


@pytest.mark.parametrize("integers", [[], [0]])
def test_one_bounded_coordinate_whose_deviation_meets_its_limit(integers: list[int]) -> None:
    """Stock pycma raises "not yet initialized" there."""
    search = made(config(start=[2.0], sigma=3.0, bounds=[[0.0, 9.0]], integers=integers, population=4))
    for _ in range(60):
        search.tell([(x - 7) ** 2 for (x,) in search.ask()])
    assert search.mean[0] == pytest.approx(7, abs=0.5 if integers else 1e-3)
