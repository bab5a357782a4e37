"""A task's fixed examples over a mixture: their summed losses under candidates' weights, and what these do to them."""

from collections.abc import Sequence

import numpy as np
import torch

from medtrain.errors import TrainingError
from medtrain.router.gate import Array
from medtrain.router.mixture import Mixture
from medtrain.router.objective import PassConfig, Rows
from medtrain.tokens.shards import Sample
from medtrain.train.batches import Batch, collate, join, trained_positions
from medtrain.train.loss import LossModule
from medtrain.train.order import layout


class Examples:
    """Examples as packed micro-batches on the mixture's device: an `Evaluator` in this process.

    Dropout is off and every order is fixed: the same weights in the same group have the same values to the last bit.

    Args:
        mixture: base and experts.
        samples: the examples.
        config: their layout.

    Raises:
        TrainingError: an example is longer than a micro-batch or has no trained token, or there is none.
    """

    def __init__(self, mixture: Mixture, samples: Sequence[Sample], config: PassConfig):
        self._mixture, self._samples, self._layout = mixture, samples, config.batch
        self._module = LossModule(mixture.model)
        self._device = next(mixture.model.parameters()).device
        lengths = [len(sample.input_ids) for sample in samples]
        if max(lengths, default=0) > config.micro_tokens:
            raise TrainingError(
                f"micro_tokens={config.micro_tokens}: the longest example has {max(lengths)} tokens; "
                "give at least that many"
            )
        idle = [sample.id for sample in samples if not len(trained_positions(sample))]
        if idle or not samples:
            what = f"{idle[0]} has no trained token" if idle else "there is none"
            raise TrainingError(f"examples: {what}; choose rows that have something to learn from")
        self._groups = layout(lengths, self._layout)
        self._batches = [self._batch(group) for group in self._groups]

    def losses(self, groups: Sequence[Array]) -> list[list[float]]:
        """The loss summed over all examples' trained tokens, in nats, of each candidate of each group.

        Args:
            groups: (C, places, experts) each.
        """
        return [self._losses(group) for group in groups]

    def gradients(self, weights: Array, batches: Sequence[Rows]) -> list[tuple[float, Array]]:
        """The summed loss of each micro-batch, in nats, and its gradient in the weights (places, experts)."""
        return [self._gradient(weights, rows) for rows in batches]

    def by_example(self, weights: Array) -> Array:
        """(examples,): the loss summed over each one's trained tokens, in nats, under weights (places, experts)."""
        given, found = torch.tensor(weights[None], device=self._device), np.zeros(len(self._samples))
        with torch.no_grad(), self._mixture.weighted(given):
            for rows, batch in zip(self._groups, self._batches, strict=True):
                trained = [len(trained_positions(self._samples[row])) for row in rows]
                parts = self._module.token_losses(batch).double().cpu().split(trained)
                found[list(rows)] = [float(part.sum()) for part in parts]
        return found

    def _losses(self, weights: Array) -> list[float]:
        given = torch.tensor(weights, device=self._device)
        total = torch.zeros(len(weights), dtype=torch.float64, device=self._device)
        with torch.no_grad(), self._mixture.weighted(given):
            for batch in self._batches:
                found = self._module.token_losses(join([batch] * len(weights)))
                total += found.double().view(len(weights), -1).sum(1)
        return [float(loss) for loss in total.cpu()]

    def _gradient(self, weights: Array, rows: Rows) -> tuple[float, Array]:
        given = torch.tensor(weights[None], device=self._device, requires_grad=True)
        with self._mixture.weighted(given):
            loss = self._module(self._batch(rows))
        (found,) = torch.autograd.grad(loss, given)
        return float(loss.detach()), np.asarray(found[0].cpu().numpy(), dtype=np.float64)

    def _batch(self, rows: Sequence[int]) -> Batch:
        return collate([self._samples[row] for row in rows], self._layout, pad_id=0).to(self._device)
