"""Every combination of values once, the last parameter changing fastest.

All choices and, where there are no more than `points`, all values of a grid; else `points` values from end to end.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medtrain.errors import ConfigError
from medtrain.search.searcher import Searcher, SearcherConfig
from medtrain.search.space import Choices, Fixed, Parameter, Range, Space, Values

LIMIT = 100_000


class Config(SearcherConfig):
    """Settings of a grid."""

    kind: Literal["grid"] = "grid"
    """This searcher's name."""
    points: int = Field(5, ge=2)
    """Values of a range, its ends among them."""


class Search(Searcher):
    """A grid; it finishes when every combination has an outcome."""

    def __init__(self, config: Config, space: Space, base: Mapping[str, Any]):
        super().__init__(config, space, base)
        values = [_values(parameter, config.points) for parameter in space.parameters.values()]
        count = int(np.prod([len(found) for found in values], dtype=float))
        if count > LIMIT:
            raise ConfigError(
                f"searcher grid: points={config.points} makes {count:,} combinations, above {LIMIT:,}; "
                "take fewer points or searcher.kind: random"
            )
        self._grid: list[Values] = [
            dict(zip(space.parameters, found, strict=True)) for found in itertools.product(*values)
        ]
        self._of: dict[int, int] = {}

    def _suggest(self, id: int) -> Values | None:
        if len(self._of) == len(self._grid):
            return None
        self._of[id] = len(self._of)
        return self._grid[self._of[id]]

    def _over(self) -> str:
        return "grid" if len(self._of) == len(self._grid) else ""

    def _learn(self, id: int, value: float | None) -> None:
        """Nothing is learned."""

    def _learn_other(self, point: tuple[float, ...], value: float | None) -> None:
        """Nothing is learned."""


def _values(parameter: Parameter, points: int) -> list[Any]:
    if isinstance(parameter, Fixed):
        return [parameter.fixed]
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    return _ends_and_between(parameter, points)


def _ends_and_between(parameter: Range, points: int) -> list[Any]:
    cells = parameter.cells
    if cells is not None and cells <= points:
        return [parameter.value((cell + 0.5) / cells) for cell in range(cells)]
    return list(dict.fromkeys(parameter.value(float(at)) for at in np.linspace(0.0, 1.0, points)))
