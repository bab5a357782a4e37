"""CMA-ES that learns from values as they arrive, of whatever age, for searches whose evaluations never wait.

The update is CMA-ES's (Hansen 2016) with four changes, each of which counted in `benchmarks/search.py`:

- It comes after each half population of values, and ranks them within the last one and a half populations. A mean that
  is the weighted best of a sliding window counts no point twice, so points may stay in it; the covariance and its
  rates take the new points alone, in proportion to their share.
- Points are seen from where the mean is *now*: a late one that lies behind pulls back what was overshot. For the path
  and the covariance a part of the way that the mean has gone meanwhile is taken off again, or being late would look
  like turning back and shrink the steps.
- The path is a little longer than CMA-ES's, as steps of overlapping windows partly cancel.
- The covariance learns faster, because steps are smaller and more.

Coordinates are those of [0, 1]^d, mirrored at their ends, so that every point can be evaluated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medtrain.search.rates import Array, Rates, rates

LEAST_CELLS = 0.4
"""The least deviation on a grid, in cells: below it only one cell would be drawn for good."""


@dataclass(frozen=True)
class Rule:
    """How values that arrive late are learned from."""

    step: float = 0.5
    """An update after so many new values, in populations."""
    window: float = 1.5
    """Ranked among so many last ones, in populations."""
    first: float = 0.7
    """The first update after so many, in populations."""
    path_back: float = 0.25
    """The share of the mean's way since a point was drawn that the path leaves out."""
    covariance_back: float = 1.0
    """The same for the covariance."""
    path_gain: float = 1.15
    """A factor on the path's steps."""
    faster: tuple[float, float] = (2.0, 1.5)
    """Factors on the rates of the covariance: that of the path, that of the points."""


@dataclass(frozen=True)
class Drawn:
    """A point of [0, 1]^d, where it lies before mirroring, and the mean it was drawn around."""

    x: tuple[float, ...]
    raw: Array
    mean: Array


@dataclass
class _Arrived:
    drawn: Drawn
    value: float
    is_new: bool = True


class Distribution:
    """One run, without restarts.

    Args:
        mean: the first mean, (d,), in [0, 1].
        deviations: the first standard deviations, (d,).
        population: what the rule counts in; it may change.
        random: the search's random numbers.
        rule: how to learn.
        constants: the constants for a number of ranked points in d dimensions.
    """

    def __init__(
        self,
        mean: Sequence[float],
        deviations: Sequence[float],
        population: int,
        random: np.random.RandomState,
        rule: Rule | None = None,
        constants: Callable[[int, int, tuple[float, float]], Rates] = rates,
    ):
        self.mean: Array = np.array(mean, dtype=float)
        self.sigma = float(np.exp(np.log(deviations).mean()))
        self.covariance: Array = np.diag((np.array(deviations, dtype=float) / self.sigma) ** 2)
        self.population, self._random, self.rule = population, random, rule or Rule()
        self._constants = constants
        self._first_sigma, self.updates = self.sigma, 0
        self._path_sigma: Array = np.zeros(len(self.mean))
        self._path: Array = np.zeros(len(self.mean))
        self._arrived: list[_Arrived] = []
        self._decompose()

    def draw(self) -> Drawn:
        """A point of the distribution as it is now."""
        normal = self._random.randn(len(self.mean))
        raw = self.mean + self.sigma * (self._axes @ (self._lengths * normal))
        return Drawn(mirrored(raw), raw, self.mean)

    def placed(self, x: Sequence[float]) -> Drawn:
        """A point that somebody else chose, as if it were no farther than points are that are drawn."""
        step = np.array(x, dtype=float) - self.mean
        length = float(np.linalg.norm(self._whiten(step))) / self.sigma
        nearer = min(1.0, (np.sqrt(len(step)) + 2) / max(length, 1e-300))
        return Drawn(tuple(x), self.mean + nearer * step, self.mean)

    def learn(self, drawn: Drawn, value: float) -> bool:
        """A value that has arrived, low ones are good; infinity is a failure.

        Returns:
            Whether the distribution has changed.
        """
        self._arrived.append(_Arrived(drawn, value))
        window = max(2, round(self.rule.window * self.population))
        self._arrived = self._arrived[-window:]
        new = sum(arrived.is_new for arrived in self._arrived)
        enough = max(1, round(self.rule.step * self.population))
        if new < enough or len(self._arrived) < min(window, max(2, round(self.rule.first * self.population))):
            return False
        self._update(new)
        for arrived in self._arrived:
            arrived.is_new = False
        return True

    @property
    def deviations(self) -> Array:
        """Standard deviation of each coordinate, (d,)."""
        return self.sigma * np.sqrt(np.diag(self.covariance))

    @property
    def shape(self) -> tuple[Array, Array]:
        """Mean, (d,), and covariance with sigma^2, (d, d), within [0, 1]: of a mean outside, its mirror image's."""
        turned = np.where(np.floor(self.mean) % 2 == 1, -1.0, 1.0)
        return np.array(mirrored(self.mean)), self.sigma**2 * turned[:, None] * self.covariance * turned

    @property
    def stopped(self) -> str:
        """Why going on would lead nowhere; empty where nothing is against it."""
        if max(float(self.deviations.max()), self.sigma * float(np.abs(self._path).max())) < 1e-11 * self._first_sigma:
            return "tolx"
        return "conditioncov" if (self._lengths.max() / self._lengths.min()) ** 2 > 1e14 else ""

    def widen(self, least: Array) -> None:
        """Keep each coordinate's deviation from falling below `least`, (d,)."""
        factors = np.maximum(1.0, least / self.deviations)
        if (factors > 1.0).any():
            self.covariance = factors[:, None] * self.covariance * factors
            self._decompose()

    def _update(self, new: int) -> None:
        """Move mean, paths, covariance and sigma by the window, of which `new` points were not learned from yet."""
        count, d, rule = len(self._arrived), len(self.mean), self.rule
        given = self._constants(d, count, rule.faster)
        share = new / count
        ranked = sorted(self._arrived, key=lambda arrived: arrived.value)
        is_new = np.array([arrived.is_new for arrived in ranked])
        steps = (np.array([arrived.drawn.raw for arrived in ranked]) - self.mean) / self.sigma  # (n, d)
        gone = (self.mean - np.array([arrived.drawn.mean for arrived in ranked])) / self.sigma * is_new[:, None]
        good = np.maximum(given.weights, 0.0)  # (n,)
        shift = good @ steps  # (d,)
        c_sigma, c_c = (1 - (1 - rate) ** share for rate in (given.c_sigma, given.c_c))
        isotropic = np.sqrt(given.mu_eff) * rule.path_gain * self._whiten(shift + rule.path_back * (good @ gone))
        self._path_sigma = (1 - c_sigma) * self._path_sigma + np.sqrt(c_sigma * (2 - c_sigma)) * isotropic
        length = float(self._path_sigma @ self._path_sigma)
        is_short = length / (1 - (1 - c_sigma) ** (2 * (self.updates + 1))) / d < 2 + 4 / (d + 1)
        self._path = (1 - c_c) * self._path + is_short * np.sqrt(c_c * (2 - c_c) * given.mu_eff) * shift
        self._turn(given, (steps + rule.covariance_back * gone)[is_new], given.weights[is_new], (share, c_c, is_short))
        self.mean = self.mean + self.sigma * shift
        self.sigma *= float(np.exp(min(1.0, c_sigma / given.damping * (np.sqrt(length) / given.chi - 1))))
        self.updates += 1
        self._decompose()

    def _turn(self, given: Rates, steps: Array, weights: Array, pace: tuple[float, float, bool]) -> None:
        """Learn the covariance of the new points' steps, (n, d), by their weights, (n,), bad ones against."""
        share, c_c, is_short = pace
        c_1 = given.c_1 * share
        lengths = (self._whiten(steps.T) ** 2).sum(axis=0)
        scaled = np.where(weights < 0, weights * len(self.mean) / (lengths + 1e-12), weights)
        kept = 1 - c_1 - given.c_mu * weights.sum() + (not is_short) * c_1 * c_c * (2 - c_c)
        self.covariance = (
            kept * self.covariance + c_1 * np.outer(self._path, self._path) + given.c_mu * (steps.T * scaled) @ steps
        )

    def _whiten(self, steps: Array) -> Array:
        """C^-1/2 times one step, (d,), or several, (d, n)."""
        inside = self._axes.T @ steps
        return self._axes @ (inside.T / self._lengths).T

    def _decompose(self) -> None:
        self.covariance = (self.covariance + self.covariance.T) / 2
        squares, self._axes = np.linalg.eigh(self.covariance)
        self._lengths: Array = np.sqrt(np.maximum(squares, 1e-30 * squares.max()))


def mirrored(raw: Array) -> tuple[float, ...]:
    """The point of [0, 1]^d that a point outside is a mirror image of."""
    folded = np.abs(raw) % 2.0
    return tuple(np.where(folded > 1.0, 2.0 - folded, folded).tolist())
