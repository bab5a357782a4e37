"""A baseline and no sum of products: LoRAHub's (Huang et al., COLM 2024), which weighs A and B apart.

One expert at weight w comes out with w squared.
"""

from typing import Literal

import torch

from medtrain import config as base
from medtrain.experts.folder import Factors
from medtrain.experts.merges import equal_rank
from medtrain.experts.products import Weighted


class Config(base.Config):
    """Nothing to set; the experts' ranks must be equal."""

    kind: Literal["lorahub"] = "lorahub"
    """This plug-in's name."""


def merge(parts: Weighted, config: Config) -> Factors:
    """(sum_i w_i sqrt(s_i) B_i) (sum_i w_i sqrt(s_i) A_i); with one scale, as LoRAHub assumes, s stands in front.

    Raises:
        ConfigError: the ranks are unequal.
    """
    equal_rank("lorahub", [factors for _, factors in parts])
    A = sum((weight * f.scale**0.5 * f.A for weight, f in parts), torch.zeros(()))
    return Factors(A, sum((weight * f.scale**0.5 * f.B for weight, f in parts), torch.zeros(())))
