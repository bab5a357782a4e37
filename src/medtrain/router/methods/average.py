"""Every expert at 1/K; nothing is fitted (STAF-LLM's "average")."""

from typing import Literal

import numpy as np

from medtrain import config as base
from medtrain.router.methods import Fitted, Given, Work

MERGE = "cat"


class Config(base.Config):
    """An average has nothing to set."""

    kind: Literal["average"] = "average"
    """This plug-in's name."""


def fit(config: Config, given: Given) -> Fitted:
    """Equal weights at every place."""
    return Fitted(np.full(given.objective.gate.shape, 1 / len(given.experts)))


def work(config: Config, shape: tuple[int, ...], rows: int) -> Work:
    """Nothing."""
    return Work()
