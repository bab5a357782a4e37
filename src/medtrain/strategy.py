"""pycma's CMA-ES kept to itself: its own random numbers, no words, no files, and other searches undisturbed."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from medtrain.config import Config

Vector = tuple[FiniteFloat, ...]
Array = np.ndarray[Any, np.dtype[np.float64]]


class StrategyConfig(Config):
    """What is searched and from where. A coordinate on a log scale is the caller's: give its logarithm."""

    start: Vector = Field(min_length=1)
    """The first mean, one number for each coordinate."""
    sigma: float = Field(gt=0, allow_inf_nan=False)
    """The first standard deviation, times `scales`."""
    seed: int = Field(ge=0, lt=2**32)
    """Seed of the search's own random numbers."""
    population: int | None = Field(None, ge=4)
    """Points in a generation; none is 4 + int(3 ln N)."""
    scales: Vector | None = None
    """A factor on sigma for each coordinate."""
    bounds: tuple[tuple[FiniteFloat, FiniteFloat], ...] | None = None
    """Lowest and highest value of each coordinate."""
    integers: tuple[int, ...] = ()
    """Coordinates, counted from 0, that are whole numbers."""
    tried_first: tuple[Vector, ...] = ()
    """Points that the first generation begins with."""

    @property
    def first_population(self) -> int:
        """Points in a generation before any restart."""
        return self.population or 4 + int(3 * math.log(len(self.start)))

    @model_validator(mode="after")
    def _fits(self) -> "StrategyConfig":
        count, bounds = len(self.start), self.bounds or ()
        for name, given in (("scales", self.scales), ("bounds", self.bounds)):
            if given is not None and len(given) != count:
                raise ValueError(f"{name} has {len(given)} entries for {count} coordinates; give one for each")
        if any(scale <= 0 for scale in self.scales or ()) or any(low >= high for low, high in bounds):
            raise ValueError("scales must be above 0, and each lower bound below its upper one")
        if any(not 0 <= coordinate < count for coordinate in self.integers):
            raise ValueError(f"integers={self.integers}: coordinates are counted from 0 to {count - 1}")
        for point in (self.start, *self.tried_first):
            inside = all(low <= x <= high for x, (low, high) in zip(point, bounds, strict=False))
            if len(point) != count or not inside:
                raise ValueError(f"start or tried_first {point}: not {count} numbers within their bounds")
        if any(point[i] != round(point[i]) for point in self.tried_first for i in self.integers):
            raise ValueError(f"tried_first={self.tried_first}: coordinates {self.integers} must be whole numbers")
        if len(self.tried_first) >= self.first_population:
            raise ValueError(f"tried_first has {len(self.tried_first)} points; population must be above that")
        return self


class Strategy:
    """One run of pycma, without restarts.

    Args:
        config: what is searched.
        random: the search's random numbers; restarts go on with them.
        mean: where this run starts.
        population: points in a generation.
    """

    def __init__(self, config: StrategyConfig, random: np.random.RandomState, mean: Sequence[float], population: int):
        import cma  # brings matplotlib along where there is one

        self._integers, self._random = list(config.integers), random
        options: dict[str, Any] = {
            "popsize": population,
            "seed": math.nan,  # "do nothing": numpy's global generator is not to be seeded
            "randn": np.random.randn if config.integers else random.randn,
            "integer_variables": self._integers,
            "verbose": -9,
            "verb_log": 0,  # no folder in the working directory
            "signals_filename": None,  # nor a file read from there
            "tolfun": 0,  # one flat generation is no convergence
            "tolfunhist": 0,
            "tolflatfitness": 1000,
        }
        if config.bounds is not None:
            options["bounds"] = [list(side) for side in zip(*config.bounds, strict=True)]
        if config.scales is not None:
            options["CMA_stds"] = list(config.scales)
        with warnings.catch_warnings():
            # pycma 4.5.0 says at every start that this file's name, its own default, is not safe.
            warnings.filterwarnings("ignore", message=r'"cma_signals\.in')
            self._es = cma.CMAEvolutionStrategy(list(mean), config.sigma, options)
        if len(mean) == 1:
            self._es.sigma_vec.set_i = partial(_set_scale, self._es.sigma_vec)
        self._asked: list[Any] = []
        self._tried_first: list[tuple[float, ...]] = []

    def try_first(self, points: Sequence[Sequence[float]]) -> None:
        """Make these the first points of the next generation, as they stand."""
        to_inside = self._es.boundary_handler.inverse  # pycma takes them in its own, unbounded, coordinates
        self._es.inject([self._es.gp.geno(np.array(x), from_bounds=to_inside) for x in points], force=True)
        self._tried_first = [tuple(x) for x in points]

    def ask(self) -> list[tuple[float, ...]]:
        """The points of a generation, to be told before the next one is asked."""
        with self._own_numbers():
            self._asked = self._es.ask()
        made = [tuple(float(number) for number in x) for x in self._asked]
        tried, self._tried_first = self._tried_first, []
        return tried + made[len(tried) :]  # theirs may differ in the last bit

    def tell(self, values: Sequence[float]) -> None:
        """The values, low ones are good, of the generation's points in their order."""
        with self._own_numbers():
            self._es.tell(self._asked, list(values))

    @property
    def stopped(self) -> str:
        """pycma's reasons why going on would lead nowhere, since the last `tell`; empty where there are none."""
        return ", ".join(sorted(self._es.stop())) if self._es.countiter else ""

    @property
    def population(self) -> int:
        return int(self._es.popsize)

    @property
    def parents(self) -> int:
        """mu: so many points must have a value of their own."""
        return int(self._es.sp.weights.mu)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)

    @property
    def mean(self) -> tuple[float, ...]:
        """The centre, within its bounds, its integers rounded."""
        found = np.array(self._es.result.xfavorite, dtype=float)
        found[self._integers] = found[self._integers].round()
        return tuple(found.tolist())

    @property
    def shape(self) -> tuple[Array, Array]:
        """Mean, (d,), its integers not rounded, and covariance, (d, d), of what is drawn.

        Near a bound, where pycma bends its coordinates, a deviation counts as the root mean square of its two ways.
        """
        es, repair = self._es, self._es.boundary_handler.repair
        deviations = es.sigma * es.sigma_vec.scaling * np.sqrt(es.sm.variances)
        mean = np.array(repair(es.mean), dtype=float)
        ways = np.array([repair(es.mean + deviations) - mean, mean - repair(es.mean - deviations)]) / deviations
        bent = np.where(ways.sum(axis=0) < 0, -1.0, 1.0) * np.sqrt((ways**2).mean(axis=0))
        factors = es.sigma * es.sigma_vec.scaling * bent
        covariance: Array = factors[:, None] * np.array(es.sm.covariance_matrix) * factors
        return mean, covariance

    @contextlib.contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """Where there are integers, pycma draws from numpy's global generator too: it is then this search's own."""
        if not self._integers:
            yield
            return
        theirs = np.random.get_state()
        np.random.set_state(self._random.get_state())
        try:
            yield
        finally:
            self._random.set_state(np.random.get_state())
            np.random.set_state(theirs)


def _set_scale(decoding: Any, index: int, value: float) -> None:
    """What pycma does where a deviation meets its limit; its own takes one coordinate for none yet, and raises."""
    decoding.is_identity = False
    decoding.scaling[index] = value
