"""What a router is fitted to: the loss per trained token and the square of the weights (STAF-LLM, eq. (5)-(7))."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from pydantic import Field

from medtrain.config import Config
from medtrain.router.gate import Array, Gate
from medtrain.tokens.shards import Sample
from medtrain.train.batches import trained_positions
from medtrain.train.order import BatchConfig, layout

Rows = tuple[int, ...]
"""Positions of the examples that make one micro-batch."""


class PassConfig(Config):
    """How examples and candidates are laid out in a forward pass; another layout rounds otherwise."""

    micro_tokens: int = Field(default=2048, ge=1)
    """Tokens of a micro-batch of examples, at least the longest."""
    candidates_per_pass: int = Field(default=4, ge=1)
    """Candidates side by side in one forward pass, which then has that many times `micro_tokens`. Which ones these are
    follows from their order alone, so that values do not depend on how many processes evaluate them."""

    @property
    def batch(self) -> BatchConfig:
        """The layout of micro-batches."""
        return BatchConfig(layout="packed", micro_tokens=self.micro_tokens)


class Evaluator(Protocol):
    """Who runs the model: this process, or several."""

    def losses(self, groups: Sequence[Array]) -> list[list[float]]:
        """The summed loss of each candidate of each group (C, places, experts)."""

    def gradients(self, weights: Array, batches: Sequence[Rows]) -> list[tuple[float, Array]]:
        """The summed loss of each micro-batch and its gradient in the weights (places, experts)."""


class Problem:
    """Losses per trained token of a task's examples under weights.

    Args:
        evaluator: who runs the model.
        samples: the examples.
        config: the layout.
    """

    def __init__(self, evaluator: Evaluator, samples: Sequence[Sample], config: PassConfig):
        self._evaluator, self.config = evaluator, config
        self.lengths = np.array([len(sample.input_ids) for sample in samples], dtype=np.int64)
        self.trained = np.array([len(trained_positions(sample)) for sample in samples], dtype=np.int64)

    def losses(self, weights: Sequence[Array]) -> list[float]:
        """The mean loss over all examples' trained tokens, in nats, of each candidate (places, experts).

        Candidates are evaluated in groups of a fixed size by their order; the last group is what is left.
        """
        size = self.config.candidates_per_pass
        groups = [np.stack(weights[start : start + size]) for start in range(0, len(weights), size)]
        found = [loss for group in self._evaluator.losses(groups) for loss in group]
        return [loss / int(self.trained.sum()) for loss in found]

    def loss_and_gradient(self, weights: Array, rows: Sequence[int] | None = None) -> tuple[float, Array]:
        """The mean loss of some examples, or of all, and its gradient in the weights (places, experts)."""
        chosen = list(range(len(self.lengths)) if rows is None else rows)
        batches = [tuple(chosen[item] for item in group) for group in layout(self.lengths[chosen], self.config.batch)]
        found = self._evaluator.gradients(weights, batches)
        trained = int(self.trained[chosen].sum())
        return sum(loss for loss, _ in found) / trained, np.sum([part for _, part in found], axis=0) / trained


class Objective:
    """L = L_task + gamma1 L_r of a router's numbers x; eq. (6), STAF-LLM.

    Args:
        gate: numbers to weights.
        problem: weights to losses.
    """

    def __init__(self, gate: Gate, problem: Problem):
        self.gate, self.problem = gate, problem

    def weights(self, x: Sequence[float]) -> Array:
        """R, (places, experts)."""
        return np.asarray(self.gate.weights(torch.tensor(x, dtype=torch.float64)).numpy())

    def values(self, points: Sequence[Sequence[float]]) -> list[float]:
        """L of each point, over all examples."""
        weights = [self.weights(x) for x in points]
        losses = self.problem.losses(weights)
        gamma1 = self.gate.config.gamma1
        return [loss + gamma1 * concentration(R) for loss, R in zip(losses, weights, strict=True)]

    def value_and_gradient(self, x: Sequence[float], rows: Sequence[int] | None = None) -> tuple[float, Array]:
        """L over some examples, or over all, and its gradient (size,) in x."""
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        R = self.gate.weights(leaf)
        loss, below = self.problem.loss_and_gradient(np.asarray(R.detach().numpy()), rows)
        penalty = self.gate.config.gamma1 * R.square().sum(-1).mean()
        (gradient,) = torch.autograd.grad((R * torch.from_numpy(below)).sum() + penalty, leaf)
        return loss + float(penalty.detach()), np.asarray(gradient.numpy())


def concentration(weights: Array) -> float:
    """L_r = sum_i R_i^2 (eq. (7), STAF-LLM), the mean over places: 1 for one expert alone, 1/K for equal weights."""
    return float(np.square(weights).sum(-1).mean())


def entropy(weights: Array) -> float:
    """-sum_i R_i ln R_i in nats, the mean over places: 0 for one expert alone, ln K for equal weights."""
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return float(-(weights * logs).sum(-1).mean())
