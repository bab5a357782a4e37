"""The task-guided router: logits of the experts and the softmax that makes weights of them (STAF-LLM, eq. (2)-(3))."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from medtrain.config import Config
from medtrain.experts.folder import Adapter
from medtrain.experts.fuse import Granularity, place
from medtrain.experts.products import norm

Array = npt.NDArray[np.float64]


class RouterConfig(Config):
    """The router of one task. The paper gives a value for none of these."""

    form: Literal["affine", "affine_norm"] = "affine"
    """Expert i's logit: alpha_i + b_i, or alpha_i ||theta_i|| + b_i. The norm is that of the expert's update at a
    place as a share of the experts' mean, which only rescales alpha: experts of any size are searched alike."""
    granularity: Granularity = "task"
    """What has weights of its own; the paper's is `task`, 2 K numbers for K experts."""
    tau: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Temperature of the softmax, without a unit: what logits are divided by. It matters through the methods' step
    sizes, and as the inverse of the largest weight that a step can reach."""
    gamma1: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """Weight of sum_i R_i^2 (eq. (7)) against the loss per token in nats; it pulls towards equal weights."""


def places_of(experts: Sequence[Adapter], granularity: Granularity) -> dict[str, str]:
    """Every module that an expert adapts, in the order of its layers' numbers -> its place."""

    def order(name: str) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    names = sorted({name for expert in experts for name in expert.modules}, key=order)
    return {name: place(name, granularity) for name in names}


def norms_of(experts: Sequence[Adapter], modules: Mapping[str, str]) -> Array:
    """(places, experts) Frobenius norms of the experts' updates, all modules of a place together.

    Args:
        experts: the adapters.
        modules: what `places_of` gave.
    """
    places = list(dict.fromkeys(modules.values()))
    squares = np.zeros((len(places), len(experts)))
    for number, expert in enumerate(experts):
        for name, f in expert.modules.items():
            squares[places.index(modules[name]), number] += norm(type(f)(f.A.double(), f.B.double(), f.scale)) ** 2
    return np.sqrt(squares)


class Gate:
    """A router's numbers x = (alpha, b), place by place and expert by expert, to weights.

    Args:
        config: form and temperature.
        norms: (places, experts), what `norms_of` gave.
    """

    def __init__(self, config: RouterConfig, norms: Array):
        self.config, self.shape = config, norms.shape
        share = norms / norms.mean(axis=1, keepdims=True) if config.form == "affine_norm" else np.ones(norms.shape)
        self._slopes = torch.from_numpy(share)

    @property
    def size(self) -> int:
        """How many numbers x has: 2 for each place and expert. At x = 0 all weights are equal."""
        return 2 * int(self.shape[0]) * int(self.shape[1])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(size,) float64 -> e, (places, experts); eq. (2), STAF-LLM."""
        alpha, b = x.view(2, *self.shape)
        return alpha * self._slopes + b

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(size,) float64 -> R, (places, experts), each place's sum 1; eq. (3), STAF-LLM."""
        return (self.logits(x) / self.config.tau).softmax(-1)
