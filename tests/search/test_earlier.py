"""Where a search begins that knows earlier trials, against the cmaes package's rule where that is installed."""

import numpy as np
import pytest

from medtrain.search.earlier import Begin, Earlier, begin_from

START = (0.5, 0.5)


def drawn(count: int) -> list[Earlier]:
    """Points and their distance from (0.2, 0.7)."""
    draw = np.random.default_rng(0)
    points = [tuple(draw.random(2).tolist()) for _ in range(count)]
    return [Earlier(point, (point[0] - 0.2) ** 2 + (point[1] - 0.7) ** 2) for point in points]


def test_nothing_known_is_the_start() -> None:
    own = Begin(START, 0.25, (1.0, 1.0))
    assert begin_from([], START, 0.25, "min") == own
    assert begin_from([Earlier((0.1, 0.1), None)], START, 0.25, "min") == own


@pytest.mark.parametrize(("mode", "best"), [("min", 0.1), ("max", 0.3)])
def test_a_few_give_the_best_of_them(mode: str, best: float) -> None:
    few = [Earlier((number, 0.5), number) for number in (0.3, 0.1, 0.2)] + [Earlier((0.9, 0.9), None)]
    assert begin_from(few, START, 0.25, mode) == Begin((best, 0.5), 0.25, (1.0, 1.0))


def test_many_give_the_distribution_of_the_best_tenth() -> None:
    found = begin_from(drawn(200), START, 0.25, "min")
    ranked = sorted(drawn(200), key=lambda e: e.value or 0.0)[:20]
    points = np.array([e.point for e in ranked])
    np.testing.assert_allclose(found.mean, points.mean(axis=0))
    deviations = found.sigma * np.array(found.scales)
    np.testing.assert_allclose(deviations, np.sqrt(points.var(axis=0) + 0.01))
    assert np.prod(found.scales) == pytest.approx(1.0)
    assert found.mean == pytest.approx((0.2, 0.7), abs=0.05)
    turned = [Earlier(e.point, -(e.value or 0.0)) for e in drawn(200)]
    assert begin_from(turned, START, 0.25, "max") == found


def test_it_is_the_published_rule() -> None:
    cmaes = pytest.importorskip("cmaes")
    earlier = drawn(50)
    mean, sigma, covariance = cmaes.get_warm_start_mgd([(np.array(e.point), e.value or 0.0) for e in earlier])
    found = begin_from(earlier, START, 1.0, "min")
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose((found.sigma * np.array(found.scales)) ** 2, sigma**2 * np.diag(covariance), rtol=1e-6)


def test_it_is_never_wider_than_it_was_asked_to_be() -> None:
    found = begin_from(drawn(50), START, 0.05, "min")
    assert found.sigma * np.array(found.scales) == pytest.approx((0.05, 0.05))
