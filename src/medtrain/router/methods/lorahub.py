"""The baseline LoRAHub (Huang et al., COLM 2024): free weights of A and of B, searched without gradients.

Theirs are the merge, the start at 0, the bounds, the penalty and the budget; the search is CMA-ES and not nevergrad's
NGOpt.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from medtrain import config as base
from medtrain.config import parse
from medtrain.evolution import EvolutionConfig
from medtrain.router.gate import Array
from medtrain.router.methods import Fitted, Given, Work
from medtrain.router.minimise import minimise

MERGE = "lorahub"


class Config(base.Config):
    """LoRAHub's own settings."""

    kind: Literal["lorahub"] = "lorahub"
    """This plug-in's name."""
    bound: float = Field(default=1.5, gt=0, allow_inf_nan=False)
    """Largest absolute weight."""
    l1: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """What the mean absolute weight counts against the loss per token in nats."""
    sigma: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """First standard deviation of each weight; the search is ours, and so is this."""
    evaluations: int = Field(default=40, ge=1)
    """Candidates at most; no generation begins that would pass it."""


def fit(config: Config, given: Given) -> Fitted:
    """Search from the base alone.

    Raises:
        ConfigError: the budget is below one generation.
        TrainingError: too few candidates of a generation have a loss that is a number.
    """
    places, experts = given.objective.gate.shape

    def weights(x: Sequence[float]) -> Array:
        return np.array(x).reshape(places, experts)

    def values(points: Sequence[Sequence[float]]) -> list[float]:
        losses = given.objective.problem.losses([weights(x) for x in points])
        return [loss + config.l1 * float(np.abs(x).mean()) for loss, x in zip(losses, points, strict=True)]

    search = _search(config, places * experts, given.seed)
    found = minimise(search, {"experts": list(given.experts), "l1": config.l1}, values, weights, given)
    facts = {"evaluations": sum(len(told) for told in found.told), "finished": found.finished}
    return Fitted(weights(found.mean), {**facts, "value_of_mean": values([found.mean])[0]})


def work(config: Config, shape: tuple[int, ...], rows: int) -> Work:
    """Whole generations within the budget, and the mean at the end."""
    population = _search(config, shape[0] * shape[1], 0).first_population
    generations = config.evaluations // population
    return Work(steps=generations, candidates=generations * population + 1)


def _search(config: Config, size: int, seed: int) -> EvolutionConfig:
    settings = {
        "start": (0.0,) * size,
        "sigma": config.sigma,
        "seed": seed,
        "bounds": ((-config.bound, config.bound),) * size,
        "max_evaluations": config.evaluations,
        "retries": 0,  # the same weights have the same loss
    }
    return parse(EvolutionConfig, settings)
