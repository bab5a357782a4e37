"""CMA-ES on the router's numbers over a few examples, without gradients (STAF-LLM's few-shot setting)."""

from typing import Literal

from pydantic import Field

from medtrain import config as base
from medtrain.config import identity, parse
from medtrain.evolution import EvolutionConfig
from medtrain.router.methods import Fitted, Given, Work
from medtrain.router.minimise import minimise

MERGE = "cat"


class Config(base.Config):
    """How the router's numbers are searched; the paper gives none of this, and its (8)-(9) are no whole algorithm."""

    kind: Literal["cmaes"] = "cmaes"
    """This plug-in's name."""
    sigma: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """First standard deviation of each number, around 0; logits, before they are divided by tau."""
    generations: int = Field(default=40, ge=1)
    """When to stop, where the search has not converged before."""
    population: int | None = Field(default=None, ge=4)
    """Candidates of a generation; null is 4 + int(3 ln N) for N numbers. A multiple of the candidates that all devices
    evaluate in one pass leaves none of them idle."""
    recommend: Literal["mean", "best"] = "mean"
    """Whether the weights are those of the last mean, or of the best candidate on these few examples."""


def fit(config: Config, given: Given) -> Fitted:
    """Search from equal weights; a generation is evaluated as one batch.

    Raises:
        TrainingError: too few candidates of a generation have a loss that is a number.
    """
    objective = given.objective
    space = {"router": identity(objective.gate.config), "experts": list(given.experts)}
    search = _search(config, objective.gate.size, given.seed)
    found = minimise(search, space, objective.values, objective.weights, given)
    assert found.best is not None, "a search ends after its first generation"
    facts = {
        "generations": len(found.told),
        "evaluations": sum(len(values) for values in found.told),
        "finished": found.finished,
        "value_of_mean": objective.values([found.mean])[0],
        "value_of_best": found.best.value,
    }
    x = found.mean if config.recommend == "mean" else found.best.x
    return Fitted(objective.weights(x), {**facts, "x": list(x)})


def work(config: Config, shape: tuple[int, ...], rows: int) -> Work:
    """Every generation, and the mean at the end."""
    population = _search(config, 2 * shape[0] * shape[1], 0).first_population
    return Work(steps=config.generations, candidates=config.generations * population + 1)


def _search(config: Config, size: int, seed: int) -> EvolutionConfig:
    settings = {
        "start": (0.0,) * size,
        "sigma": config.sigma,
        "seed": seed,
        "population": config.population,
        "max_generations": config.generations,
        "retries": 0,  # the same weights have the same loss
    }
    return parse(EvolutionConfig, settings)
