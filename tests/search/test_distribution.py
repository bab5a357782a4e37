"""The distribution: pycma's where nothing is late, a plain float64 loop where something is."""

import math
from typing import Any

import cma
import numpy as np
import pytest

from medtrain.search.distribution import Distribution, Drawn, Rule, mirrored
from medtrain.search.rates import Rates, rates

PLAIN = Rule(step=1.0, window=1.0, first=1.0, path_back=0.0, covariance_back=0.0, path_gain=1.0, faster=(1.0, 1.0))
"""Stock CMA-ES."""


def ellipsoid(x: Any) -> float:
    """Its axes differ by thirty; least at 0.4."""
    return float(sum(1e3 ** (i / (len(x) - 1)) * (number - 0.4) ** 2 for i, number in enumerate(x)))


def made(rule: Rule | None = None, dimension: int = 3, population: int = 7, **given: Any) -> Distribution:
    """A distribution in the middle."""
    return Distribution([0.5] * dimension, [0.1] * dimension, population, np.random.RandomState(3), rule, **given)


@pytest.mark.parametrize("dimension", [2, 5])
def test_where_nothing_is_late_it_is_pycma(dimension: int) -> None:
    """Given pycma's points and constants, mean, sigma and covariance are pycma's, generation after generation."""
    random = np.random.RandomState(5)
    options = {"popsize": 8, "verbose": -9, "seed": math.nan, "randn": random.randn, "updatecovwait": 0}
    theirs = cma.CMAEvolutionStrategy([0.5] * dimension, 0.1, options)
    step = theirs.adapt_sigma.initialize(theirs)
    constants = Rates(
        weights=np.array(list(theirs.sp.weights)),
        mu_eff=theirs.sp.weights.mueff,
        c_sigma=step.cs,
        damping=step.damps,
        c_c=theirs.sp.cc,
        c_1=theirs.sp.c1,
        c_mu=theirs.sp.cmu,
        chi=cma.utilities.math.Mh.chiN(dimension),
    )
    ours = made(PLAIN, dimension, 8, constants=lambda d, count, faster: constants)
    ours.covariance = theirs.sm.covariance_matrix.copy()  # pycma's first one is off by 1e-5, so that no axes are equal
    ours._decompose()
    for _ in range(30):
        asked = theirs.ask()
        theirs.tell(asked, [ellipsoid(x) for x in asked])
        for x in asked:
            ours.learn(Drawn(tuple(x), np.array(x), ours.mean), ellipsoid(x))
        np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-7)
        assert ours.sigma == pytest.approx(theirs.sigma, rel=1e-7)
        np.testing.assert_allclose(ours.covariance, theirs.sm.covariance_matrix, rtol=1e-6, atol=1e-9)


def naive(before: dict[str, Any], arrived: list[tuple[Drawn, float, bool]], rule: Rule) -> dict[str, Any]:
    """One update, number by number, in the order of the module's description."""
    mean, sigma, C = before["mean"], before["sigma"], before["covariance"]
    d, n = len(mean), len(arrived)
    given, ranked = rates(d, n, rule.faster), sorted(arrived, key=lambda entry: entry[1])
    share = sum(is_new for _, _, is_new in arrived) / n
    squares, axes = np.linalg.eigh(C)
    root = axes @ np.diag(squares**-0.5) @ axes.T
    shift, path = [0.0] * d, [0.0] * d
    for w, (drawn, _, is_new) in zip(given.weights, ranked, strict=True):
        if w > 0:
            for j in range(d):
                step = (drawn.raw[j] - mean[j]) / sigma
                shift[j] += w * step
                path[j] += w * (step + rule.path_back * is_new * (mean[j] - drawn.mean[j]) / sigma)
    c_sigma, c_c = 1 - (1 - given.c_sigma) ** share, 1 - (1 - given.c_c) ** share
    p_sigma = (1 - c_sigma) * before["p_sigma"] + math.sqrt(c_sigma * (2 - c_sigma) * given.mu_eff) * rule.path_gain * (
        root @ np.array(path)
    )
    norm = math.sqrt(sum(number**2 for number in p_sigma))
    short = norm**2 / (1 - (1 - c_sigma) ** (2 * before["updates"] + 2)) < d * (2 + 4 / (d + 1))
    p_c = (1 - c_c) * before["p_c"] + short * math.sqrt(c_c * (2 - c_c) * given.mu_eff) * np.array(shift)
    new, total = np.zeros((d, d)), 0.0
    for w, (drawn, _, is_new) in zip(given.weights, ranked, strict=True):
        if is_new:
            y = (drawn.raw - mean + rule.covariance_back * (mean - drawn.mean)) / sigma
            new += given.c_mu * (w if w >= 0 else w * d / float(y @ root @ root @ y)) * np.outer(y, y)
            total += given.c_mu * w
    c_1 = given.c_1 * share
    kept = 1 - c_1 - total + (0 if short else c_1 * c_c * (2 - c_c))
    return {
        "mean": mean + sigma * np.array(shift),
        "sigma": sigma * math.exp(min(1.0, c_sigma / given.damping * (norm / given.chi - 1))),
        "covariance": kept * C + c_1 * np.outer(p_c, p_c) + new,
    }


def test_late_points_move_it_as_a_plain_loop_says() -> None:
    ours, random = made(), np.random.RandomState(1)
    window, step = round(1.5 * 7), round(0.5 * 7)
    out, arrived, updates = [ours.draw() for _ in range(12)], list[Any](), 0
    while updates < 12:
        drawn = out.pop(random.randint(len(out)))
        before = {
            "mean": ours.mean, "sigma": ours.sigma, "covariance": ours.covariance, "updates": ours.updates,
            "p_sigma": ours._path_sigma, "p_c": ours._path,
        }  # fmt: skip
        value = ellipsoid(drawn.x)
        arrived = [*arrived, [drawn, value, True]][-window:]
        changed = ours.learn(drawn, value)
        out.append(ours.draw())
        assert changed == (len(arrived) >= round(0.7 * 7) and sum(entry[2] for entry in arrived) >= step)
        if changed:
            updates += 1
            wanted = naive(before, [tuple(entry) for entry in arrived], ours.rule)
            for name, found in (("mean", ours.mean), ("sigma", ours.sigma), ("covariance", ours.covariance)):
                np.testing.assert_allclose(found, wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)
            for entry in arrived:
                entry[2] = False


def test_draws_have_the_distribution_s_moments() -> None:
    ours = made()
    ours.covariance = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, 0.2], [0.0, 0.2, 0.5]])
    ours._decompose()
    raw = np.array([ours.draw().raw for _ in range(20_000)])
    np.testing.assert_allclose(raw.mean(axis=0), ours.mean, atol=0.01)
    np.testing.assert_allclose(np.cov(raw.T), ours.sigma**2 * ours.covariance, atol=0.002)


def test_points_beyond_the_ends_are_mirrored() -> None:
    assert mirrored(np.array([-0.25, 0.25, 1.25, 2.5, -1.75])) == pytest.approx((0.25, 0.25, 0.75, 0.5, 0.25))
    ours = made()
    ours.mean[:] = [-0.1, 1.1, 0.5]
    assert all(0 <= number <= 1 for _ in range(200) for number in ours.draw().x)


def test_a_stranger_s_point_pulls_no_farther_than_a_drawn_one_could() -> None:
    ours = made(dimension=2)
    near, far = ours.placed((0.55, 0.5)), ours.placed((1.0, 0.5))
    np.testing.assert_allclose(near.raw, (0.55, 0.5))
    np.testing.assert_allclose(far.raw, (0.5 + 0.1 * (math.sqrt(2) + 2), 0.5))
    assert far.x == (1.0, 0.5)


def test_a_grid_keeps_its_deviation() -> None:
    ours = made(dimension=2)
    ours.covariance = np.array([[1e-8, 5e-5], [5e-5, 1.0]])
    ours.widen(np.array([0.04, 0.0]))
    assert ours.deviations == pytest.approx((0.04, 0.1))
    assert ours.covariance[0, 1] / math.sqrt(ours.covariance[0, 0]) == pytest.approx(0.5)  # correlations stay
    np.testing.assert_allclose(ours._axes @ np.diag(ours._lengths**2) @ ours._axes.T, ours.covariance)


def test_it_says_when_nothing_moves_any_more() -> None:
    ours = made(dimension=2, population=6)
    while not ours.stopped:
        drawn = ours.draw()
        ours.learn(drawn, ellipsoid(drawn.x))
        assert ours.updates < 2000
    assert ours.stopped == "tolx" and ours.mean == pytest.approx((0.4, 0.4), abs=1e-7)
    flat = made(dimension=2)
    for _ in range(1000):
        flat.learn(flat.draw(), 1.0)
    assert flat.stopped == "" and 1e-4 < flat.sigma < 1e4


@pytest.mark.parametrize("outside", [0.8, 1.2, -0.2, 2.2])
def test_its_shape_is_that_of_its_points_also_beyond_the_mirror(outside: float) -> None:
    ours = made(dimension=2)
    ours.mean, ours.sigma, ours.covariance = np.array([outside, 0.4]), 0.05, np.array([[1.0, 0.6], [0.6, 0.5]])
    ours._decompose()
    mean, covariance = ours.shape
    points = np.array([ours.draw().x for _ in range(4000)])
    np.testing.assert_allclose(points.mean(axis=0), mean, atol=0.004)
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=2e-4)
    assert (covariance[0, 1] > 0) == (outside in (0.8, 2.2))
