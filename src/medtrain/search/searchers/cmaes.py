"""CMA-ES over the space's coordinates, generation by generation or with every slot busy.

How parameters are mapped: a range is one coordinate in [0, 1], linear or logarithmic; with `int` or `step` its values
are equal cells of it (`generational`: pycma's integer coordinates, which are kept from freezing; `asynchronous`: the
deviation does not fall below 0.4 cells); `int` with `log` is rounded, with nothing against freezing. Choices have a
coordinate each and the highest wins, at most 4 of them.

`asynchronous` suggests whenever it is asked and learns from each value that arrives, however late (see
`asynchronous.py`); the order of arrival decides what follows. `generational` has pycma's own points for a seed, in any
order of arrival, and makes whoever asks wait for the last trials of a generation; its population wants to be at least
the number of slots.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.evolution import Evolution, EvolutionConfig
from medtrain.restarts import Kind
from medtrain.search.asynchronous import Asynchronous
from medtrain.search.earlier import Earlier, begin_from
from medtrain.search.rates import Array
from medtrain.search.searcher import Searcher, SearcherConfig
from medtrain.search.space import Choices, Space, Values

MOST_CHOICES = 4


class Config(SearcherConfig):
    """Settings of CMA-ES."""

    kind: Literal["cmaes"] = "cmaes"
    """This searcher's name."""
    timing: Literal["asynchronous", "generational"] = "asynchronous"
    """Whether a suggestion never waits for values, or all of a generation come before the next."""
    population: int | None = Field(None, ge=4)
    """Points in a generation; none is 4 + int(3 ln d)."""
    start: dict[str, Any] | None = None
    """Values to begin at, by dotted name; the others are the base config's, where the space has them, or central."""
    sigma: float = Field(0.25, gt=0, le=1)
    """The first standard deviation, as a share of each range."""
    restarts: int = Field(0, ge=0)
    """How often a search that has converged begins again with twice the population."""
    restart_kind: Kind = "ipop"
    """Whether that is all (ipop), or small runs come between (bipop)."""
    restart_from: Literal["start", "best"] = "start"
    """Where it begins again."""
    failed: Literal["penalty", "median"] = "penalty"
    """A trial that failed for good counts as worse than the others, so that a region that always fails is left; or
    as the median (asynchronous: as not made), which teaches nothing."""
    noisy: bool = False
    """Whether the mean of the search is recommended, not the best setting seen."""
    target: FiniteFloat | None = None
    """Finish when a value is as good as this."""


class Search(Searcher):
    """CMA-ES; it finishes at `target`, or where it has converged and has no restart left.

    Raises:
        ConfigError: a parameter has more than 4 choices, or `start` is not in the space.
    """

    config: Config

    def __init__(self, config: Config, space: Space, base: Mapping[str, Any]):
        super().__init__(config, space, base)
        many = [n for n, p in space.parameters.items() if isinstance(p, Choices) and len(p.choices) > MOST_CHOICES]
        if many:
            raise ConfigError(
                f"searcher cmaes: {many[0]} has more than {MOST_CHOICES} choices, of which CMA-ES learns too slowly; "
                "leave some out, or take searcher.kind: random"
            )
        self._cells = np.array([coordinate.cells or 0 for coordinate in space.coordinates])
        self._start = space.start(base, config.start or {})
        self._earlier: list[Earlier] = []
        self._search: Evolution | Asynchronous | None = None
        self._points: dict[int, int] = {}
        self._newest = -1

    @property
    def recommended(self) -> Values | None:
        """The mean of the search where values are noisy and it has learned, else the best setting."""
        if self.config.noisy and self._search is not None and self.best is not None:
            return self.space.values(self._unit(self._search.mean))
        return super().recommended

    @property
    def shape(self) -> tuple[Array, Array] | None:
        """Of the search, once it has begun."""
        if self._search is None:
            return None
        mean, covariance = self._search.shape
        if isinstance(self._search, Evolution):
            whole, cells = self._cells > 0, np.maximum(self._cells, 1)
            return (mean + 0.5 * whole) / cells, covariance / cells[:, None] / cells
        return mean, covariance

    def _suggest(self, id: int) -> Values | None:
        search = self._begun()
        point = search.next()
        if point is None:
            return None
        self._points[id] = point.id
        if point.id <= self._newest:
            self._afresh.add(id)  # a generation that failed as a whole comes once more
        self._newest = max(self._newest, point.id)
        return self.space.values(self._unit(point.x))

    def _learn(self, id: int, value: float | None) -> None:
        search = self._begun()
        search.record(self._points.pop(id), value)
        self.finished = search.finished

    def _learn_other(self, point: tuple[float, ...], value: float | None) -> None:
        """Before the first suggestion it decides where the search begins, later it is a value like any other."""
        if self._search is None:
            self._earlier.append(Earlier(point, value))
        elif isinstance(self._search, Asynchronous):
            self._search.add(point, value)

    def _begun(self) -> Evolution | Asynchronous:
        if self._search is None:
            self._search = self._begin()
        return self._search

    def _begin(self) -> Evolution | Asynchronous:
        """The search, once it is known whether there were earlier trials."""
        given = self.config
        begin = begin_from(self._earlier, self._start, given.sigma, given.mode)
        settings: dict[str, Any] = given.model_dump(
            include={"seed", "mode", "population", "restarts", "restart_kind", "restart_from", "failed", "target"}
        )
        settings |= {"sigma": begin.sigma, "retries": 0, "needed": 1}
        if given.timing == "asynchronous":
            settings |= {"start": begin.mean, "scales": begin.scales}
            return Asynchronous(parse(EvolutionConfig, settings), tuple(self._cells.tolist()))
        steps = np.maximum(self._cells - 1, 1)
        settings |= {
            "start": self._whole(begin.mean),
            "bounds": [(0.0, float(step)) for step in steps],
            "scales": [float(scale * step) for scale, step in zip(begin.scales, steps, strict=True)],
            "integers": np.flatnonzero(self._cells).tolist(),
        }
        return Evolution(parse(EvolutionConfig, settings), self.space.fingerprint)

    def _whole(self, unit: tuple[float, ...]) -> tuple[float, ...]:
        """A point of [0, 1]^d in the coordinates of the generational search: a cell is a whole number."""
        pairs = zip(unit, self._cells, strict=True)
        return tuple(float(min(math.floor(at * cells), cells - 1)) if cells else at for at, cells in pairs)

    def _unit(self, x: tuple[float, ...]) -> tuple[float, ...]:
        """The way back."""
        if not isinstance(self._search, Evolution):
            return x
        return tuple((round(at) + 0.5) / cells if cells else at for at, cells in zip(x, self._cells, strict=True))
