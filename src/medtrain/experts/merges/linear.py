"""A baseline and no sum: PEFT's `linear`, which adds the factors up, so that B of one expert meets A of another.

K equal experts at 1/K come out K times too large; two random experts are off by their own size.
"""

from typing import Literal

import torch

from medtrain import config as base
from medtrain.experts.folder import Factors
from medtrain.experts.merges import equal_rank
from medtrain.experts.products import Weighted


class Config(base.Config):
    """Nothing to set; the experts' ranks must be equal."""

    kind: Literal["linear"] = "linear"
    """This plug-in's name."""


def merge(parts: Weighted, config: Config) -> Factors:
    """(sum_i sqrt|w_i s_i| B_i) (sum_i sign(w_i s_i) sqrt|w_i s_i| A_i).

    Raises:
        ConfigError: the ranks are unequal.
    """
    equal_rank("linear", [factors for _, factors in parts])
    scaled = [(weight * factors.scale, factors) for weight, factors in parts]
    A = sum((abs(ws) ** 0.5 * (1 if ws >= 0 else -1) * f.A for ws, f in scaled), torch.zeros(()))
    return Factors(A, sum((abs(ws) ** 0.5 * f.B for ws, f in scaled), torch.zeros(())))
