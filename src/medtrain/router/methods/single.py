"""One expert alone (STAF-LLM's "single"): the task's own, or the one that explains the examples best."""

from typing import Literal

import numpy as np

from medtrain import config as base
from medtrain.errors import ConfigError, TrainingError
from medtrain.router.gate import Array
from medtrain.router.methods import Fitted, Given

MERGE = "cat"


class Config(base.Config):
    """Which expert."""

    kind: Literal["single"] = "single"
    """This plug-in's name."""
    expert: str | None = None
    """Its name; null takes the one with the least loss on the examples."""


def fit(config: Config, given: Given) -> Fitted:
    """1 for one expert at every place, 0 for the others.

    Raises:
        ConfigError: there is no such expert.
        TrainingError: no expert's loss is a number.
    """
    names = list(given.experts)
    if config.expert is not None:
        if config.expert not in names:
            raise ConfigError(f"method.expert={config.expert!r}: the library has {', '.join(names)}")
        return Fitted(_alone(given, names.index(config.expert)), {"expert": config.expert})
    losses = given.objective.problem.losses([_alone(given, number) for number in range(len(names))])
    if not np.isfinite(losses).any():
        raise TrainingError("method single: no expert's loss on the examples is a number; train the experts again")
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    return Fitted(_alone(given, best), {"expert": names[best], "losses": dict(zip(names, losses, strict=True))})


def _alone(given: Given, number: int) -> Array:
    weights = np.zeros(given.objective.gate.shape)
    weights[:, number] = 1
    return weights
