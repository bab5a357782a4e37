"""Settings drawn evenly over the space, each by (seed, number) alone; it takes any number of choices."""

from typing import Literal

import numpy as np

from medtrain.search.searcher import Searcher, SearcherConfig
from medtrain.search.space import Values


class Config(SearcherConfig):
    """Settings of random search."""

    kind: Literal["random"] = "random"
    """This searcher's name."""


class Search(Searcher):
    """Random search; it never finishes by itself."""

    def _suggest(self, id: int) -> Values:
        draw = np.random.default_rng([self.config.seed, id])
        return self.space.values(draw.random(len(self.space.coordinates)).tolist())

    def _learn(self, id: int, value: float | None) -> None:
        """Nothing is learned."""

    def _learn_other(self, point: tuple[float, ...], value: float | None) -> None:
        """Nothing is learned."""
