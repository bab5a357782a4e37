"""CMA-ES without generations: a point whenever one is asked for, every value learned from when it arrives.

What follows is decided by the seed and the order of arrival. The interface is that of `medtrain.evolution.Evolution`.
"""

import math
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from medtrain.errors import TrainingError
from medtrain.evolution import Best, EvolutionConfig, Point
from medtrain.restarts import Restarts, Run
from medtrain.search.distribution import LEAST_CELLS, Distribution, Drawn, Rule, mirrored
from medtrain.search.rates import Array

PER_SLOT = 0.75
"""The least population for each point that is out: where far more are out than are ranked, narrow valleys are lost."""


class Asynchronous:
    """One search in [0, 1]^d. Not for two threads.

    Args:
        config: what is searched; a failure is final, and budgets are the caller's.
        cells: how many values each coordinate has, 0 where they lie on no grid.
        rule: how to learn.
    """

    def __init__(self, config: EvolutionConfig, cells: Sequence[int] = (), rule: Rule | None = None):
        self.config, self._rule = config, rule
        self._random = np.random.RandomState(config.seed)
        self._least = np.array([LEAST_CELLS / count if count else 0.0 for count in cells or [0] * len(config.start)])
        self._restarts = Restarts(config.restart_kind, config.restarts, config.first_population, self._random)
        self.finished = ""
        """Why the search is over; empty while it goes on."""
        self.best: Best | None = None
        self.restarted = 0
        """How many runs began after the first."""
        self._means: list[tuple[float, ...]] = []
        """Where each run ended that another has followed."""
        self._best_run = 0
        self._made = 0
        self._out: dict[int, tuple[int, Drawn]] = {}
        self._failures = 0
        self._begin(config.start, Run(config.first_population))

    @property
    def mean(self) -> tuple[float, ...]:
        """The centre of the run that found `best`, now or at its end: what to recommend where values are noisy."""
        return [*self._means, mirrored(self._distribution.mean)][self._best_run]

    @property
    def shape(self) -> tuple[Array, Array]:
        """Mean, (d,), and covariance, (d, d), of the points that are drawn."""
        return self._distribution.shape

    @property
    def sigma(self) -> float:
        """The step size."""
        return self._distribution.sigma

    def next(self) -> Point | None:
        """A point to evaluate; None if the search is `finished`."""
        if self.finished:
            return None
        drawn = self._distribution.draw()
        self._out[self._made] = (self.restarted, drawn)
        self._made += 1
        return Point(self._made - 1, drawn.x)

    def record(self, id: int, value: float | None) -> bool:
        """A point's value; None, NaN and infinities are failures.

        A point of a run before the last restart counts only as the best one, if it is.

        Returns:
            Whether the distribution has changed.

        Raises:
            TrainingError: two populations in a row have failed.
        """
        self._distribution.population = max(self._run.population, round(PER_SLOT * len(self._out)))
        run, drawn = self._out.pop(id)
        self._keep(drawn.x, value, run)
        self._failures = 0 if _is_value(value) else self._failures + 1
        if self._failures >= 2 * self.config.first_population:
            raise TrainingError(
                f"search: the last {self._failures} trials failed, all of them; see why they fail, then go on"
            )
        return run == self.restarted and self._learn(drawn, value)

    def add(self, x: Sequence[float], value: float | None) -> bool:
        """The value of a point that was not drawn here."""
        self._keep(tuple(x), value, self.restarted)
        return self._learn(self._distribution.placed(x), value)

    def _keep(self, x: tuple[float, ...], value: float | None, run: int) -> None:
        """Remember the best, and finish at the target."""
        if not _is_value(value):
            return
        sign, target = self._sign, self.config.target
        if self.best is None or sign * value < sign * self.best.value:
            self.best, self._best_run = Best(float(value), x), run
        if target is not None and sign * value <= sign * target:
            self.finished = "target"

    def _learn(self, drawn: Drawn, value: float | None) -> bool:
        if not _is_value(value):
            if self.config.failed == "median":
                return False
            value = self._sign * math.inf
        self._evaluations += 1
        if not self._distribution.learn(drawn, self._sign * value):
            return False
        self._distribution.widen(self._least)
        stopped = self._distribution.stopped
        limit = self._run.evaluations
        if stopped or (limit is not None and self._evaluations >= limit):
            run = self._restarts.next(self._evaluations)
            if run is None:
                self.finished = self.finished or stopped or "restarts"
            else:
                self.restarted += 1
                self._means.append(mirrored(self._distribution.mean))
                best = self.config.restart_from == "best" and self.best
                self._begin(best.x if best else self.config.start, run)
        return True

    def _begin(self, mean: Sequence[float], run: Run) -> None:
        self._run, self._evaluations = run, 0
        scales = np.array(self.config.scales or [1.0] * len(mean))
        deviations = self.config.sigma * run.sigma_factor * scales
        self._distribution = Distribution(mean, deviations.tolist(), run.population, self._random, self._rule)
        self._distribution.widen(self._least)

    @property
    def _sign(self) -> float:
        return 1.0 if self.config.mode == "min" else -1.0


def _is_value(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
