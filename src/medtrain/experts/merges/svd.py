"""The best approximation of a given rank to the weighted sum of the experts' products."""

from typing import Literal

from pydantic import Field

from medtrain import config as base
from medtrain.experts.folder import Factors
from medtrain.experts.products import Weighted, best, exact_sum


class Config(base.Config):
    """What is cut off is the error that a fusion reports."""

    kind: Literal["svd"] = "svd"
    """This plug-in's name."""
    rank: int | None = Field(None, ge=1)
    """Largest rank of a module; none is that of its expert of the largest rank, as in PEFT."""


def merge(parts: Weighted, config: Config) -> Factors:
    """The sum's largest singular values, each shared out evenly between A and B."""
    return best(exact_sum(parts), config.rank or max(factors.rank for _, factors in parts))
