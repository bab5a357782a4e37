"""Exact: the weighted sum of the experts' products, as one product of concatenated factors."""

from typing import Literal

from medtrain import config as base
from medtrain.experts.folder import Factors
from medtrain.experts.products import Weighted, exact_sum


class Config(base.Config):
    """Concatenation has nothing to set; its rank is the sum of the experts' ranks."""

    kind: Literal["cat"] = "cat"
    """This plug-in's name."""


def merge(parts: Weighted, config: Config) -> Factors:
    """sum_i w_i s_i B_i A_i (eq. (10), STAF-LLM): A = [w_i s_i A_i], B = [B_i]."""
    return exact_sum(parts)
