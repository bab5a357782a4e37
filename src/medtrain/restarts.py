"""What follows when a run of CMA-ES has converged: IPOP (Auger and Hansen 2005) and BIPOP (Hansen 2009)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["ipop", "bipop"]


@dataclass(frozen=True)
class Run:
    """A run to come: points in a generation, a factor on the first sigma, and after how many points it ends."""

    population: int
    sigma_factor: float = 1.0
    evaluations: int | None = None


class Restarts:
    """Chooses runs; the first one is not its choice, but counts.

    IPOP doubles the population each time. BIPOP does too, and between these large runs it makes small ones, of a
    population from the first to the last large one and of a smaller sigma, as long as all of them took fewer points
    than the large ones; the first run counts as small, and a small one ends after half of the large ones' points.

    Args:
        kind: which of the two.
        limit: how many large runs there are.
        population: the first run's.
        random: the search's random numbers.
    """

    def __init__(self, kind: Kind, limit: int, population: int, random: np.random.RandomState):
        self._kind, self._limit, self._population, self._random = kind, limit, population, random
        self._large, self._small_points, self._large_points = 0, 0, 0
        self._is_large = False

    def next(self, evaluations: int) -> Run | None:
        """The run after one that took so many points; None if there is none left."""
        if self._is_large:
            self._large_points += evaluations
        else:
            self._small_points += evaluations
        if self._large >= self._limit:
            return None
        self._is_large = self._kind == "ipop" or self._small_points >= self._large_points
        if self._is_large:
            self._large += 1
            return Run(self._population * 2**self._large)
        sigma_factor = 0.01 ** self._random.uniform()
        population = int(self._population * 2 ** (self._large * self._random.uniform() ** 2))
        return Run(population, sigma_factor, max(population, self._large_points // 2))
