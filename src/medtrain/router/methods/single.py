"""One expert alone (STAF-LLM's "single"): the task's own, or the one that explains the examples best."""

import math
from typing import Literal

import numpy as np

from medtrain import config as base
from medtrain.errors import ConfigError, TrainingError
from medtrain.router.gate import Array
from medtrain.router.methods import Fitted, Given, Work

MERGE = "cat"


class Config(base.Config):
    """Which expert."""

    kind: Literal["single"] = "single"
    """This plug-in's name."""
    expert: str | None = None
    """Its name; null takes the task's own, and where it has none the one with the least loss on the examples."""


def fit(config: Config, given: Given) -> Fitted:
    """1 for one expert at every place, 0 for the others.

    Raises:
        ConfigError: there is no such expert among those that are weighed.
        TrainingError: no expert's loss is a number.
    """
    names, wanted = list(given.experts), config.expert or given.own
    if wanted is not None:
        if wanted not in names:
            raise ConfigError(
                f"method.expert={wanted!r}: the experts that are weighed are {', '.join(names)}; name one"
            )
        return Fitted(_alone(given, names.index(wanted)), {"expert": wanted})
    losses = given.objective.problem.losses([_alone(given, number) for number in range(len(names))])
    if not np.isfinite(losses).any():
        raise TrainingError("method single: no expert's loss on the examples is a number; train the experts again")
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    known = {name: loss if math.isfinite(loss) else None for name, loss in zip(names, losses, strict=True)}
    return Fitted(_alone(given, best), {"expert": names[best], "losses": known})


def work(config: Config, shape: tuple[int, ...], rows: int) -> Work:
    """Each expert once, where none is named."""
    return Work(candidates=0 if config.expert else shape[1])


def _alone(given: Given, number: int) -> Array:
    weights = np.zeros(given.objective.gate.shape)
    weights[:, number] = 1
    return weights
