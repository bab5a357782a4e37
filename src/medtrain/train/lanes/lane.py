"""One lane: an adapter, its data, and everything of a run that is not the base: AdamW, clipping, rule, random draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medtrain.errors import ConfigError, TrainingError
from medtrain.tokens.shards import Samples
from medtrain.train import order
from medtrain.train import state as trainable_state
from medtrain.train.adapters import Rule
from medtrain.train.batches import Batch, collate
from medtrain.train.loss import LossModule
from medtrain.train.optimizer import RATE_SCALE, OptimizerConfig, build


@dataclass(frozen=True)
class LaneStep:
    """What a lane trains in one optimizer step."""

    micro_batches: Sequence[order.MicroBatch]
    learning_rate: float
    done: int = 0
    """Optimizer steps before this one, by which the adapter's rule goes."""


class Lane:
    """An adapter in training. Its model is a whole PEFT model over the base's weights, so that it can be evaluated,
    saved and exported by itself; it trains in a `LaneEngine`.

    Args:
        model: what `LaneEngine.attach` gave.
        samples: the token artifact's rows.
        batch: layout of micro-batches, which must be packed.
        optimizer: AdamW's settings.
        pad_id: token id of an empty batch.
        rule: what the adapter does around each optimizer step, if it does anything.

    Raises:
        ConfigError: the layout is padded.
    """

    def __init__(
        self,
        model: Any,
        samples: Samples,
        *,
        batch: order.BatchConfig,
        optimizer: OptimizerConfig,
        pad_id: int,
        rule: Rule | None = None,
    ):
        if batch.layout != "packed":
            raise ConfigError(f"batch.layout={batch.layout}: lanes share packed rows; set batch.layout: packed")
        self.model, self.samples, self.rule = model, samples, rule
        self._batch, self._pad_id, self._clip = batch, pad_id, optimizer.clip
        self._module = LossModule(model.eval())  # in evaluation only; it trains in the shared base
        self.parameters = trainable_state.trainable(self._module)
        """The trained tensors, by the loss module's names."""
        self._optimizer = build(optimizer, self._module.named_parameters(), fused=True)
        self.device = next(iter(self.parameters.values())).device
        self.generator = torch.Generator(self.device)
        """Draws this lane's dropout; set from each micro-batch's own seed."""

    def tokens(self, micro: order.MicroBatch) -> int:
        """Tokens of a micro-batch."""
        return sum(int(self.samples.lengths[row]) for row in micro.rows)

    def trained_tokens(self, micro_batches: Sequence[order.MicroBatch]) -> int:
        """Tokens that the loss of a step sums over.

        Raises:
            TrainingError: there is none.
        """
        rows = [row for micro in micro_batches for row in micro.rows]
        trained = sum(int(self.samples.trained_tokens[row]) for row in rows)
        if trained == 0:
            ids = ", ".join(self.samples.ids[row] for row in rows[:5])
            raise TrainingError(f"a step without a trained token (samples {ids}, …): nothing to learn from")
        return trained

    def collate(self, micro: order.MicroBatch) -> Batch:
        """A micro-batch as tensors, on the host."""
        return collate([self.samples[row] for row in micro.rows], self._batch, self._pad_id)

    def gradient_norm(self) -> torch.Tensor:
        """Add the regulariser's gradient to the step's, and take the norm of all; a scalar on the device."""
        if self.rule is not None:
            self.rule.regulariser(self.parameters).backward()
        norms = torch._foreach_norm(list(self._gradients().values()))
        return torch.linalg.vector_norm(torch.stack(norms))

    def update(self, step: LaneStep, norm: torch.Tensor, norm_read: float) -> None:
        """Clip, let AdamW step, let the rule act; `norm` is `gradient_norm`'s, `norm_read` the same on the host."""
        gradients, clipped = self._gradients(), 1.0
        if self._clip:
            clipped = min(1.0, self._clip / (norm_read + 1e-6))
            factor = torch.clamp(self._clip / (norm + 1e-6), max=1.0)
            for name, gradient in zip(gradients, torch._foreach_mul(list(gradients.values()), factor), strict=True):
                self.parameters[name].grad = gradient
        for group in self._optimizer.param_groups:
            group["lr"] = step.learning_rate * group[RATE_SCALE]
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self.rule is not None:
            for name, value in self.rule.after_step(step.done + 1, self.parameters, gradients, clipped).items():
                self.parameters[name].data.copy_(value)

    def _gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad for name, p in self.parameters.items() if p.grad is not None}

    @torch.no_grad()
    def losses(self, micro_batches: Sequence[order.MicroBatch]) -> list[tuple[float, int]]:
        """The (summed loss, trained tokens) of each micro-batch without training, in this lane's own model."""
        found = []
        for micro in micro_batches:
            batch = self.collate(micro).to(self.device)
            found.append((float(self._module(batch)), batch.trained_tokens))
        return found

    def weights(self) -> trainable_state.State:
        """The trained tensors on the host, as `adapter_files.write` takes them."""
        return {n: p.detach().to("cpu", torch.float32, copy=True) for n, p in self.parameters.items()}

    def state(self, room: trainable_state.State | None = None) -> trainable_state.State:
        """The whole trainable state, as `Engine.state` has it."""
        keyed = {f"weight/{name}": parameter for name, parameter in self.parameters.items()}
        state = {key: trainable_state.on_host(parameter.float(), key, room) for key, parameter in keyed.items()}
        state |= trainable_state.moments(self._optimizer, self.parameters, room)
        return state | (self.rule.state() if self.rule is not None else {})

    def go_on(self, saved: trainable_state.State, updates: int) -> None:
        """Go on from a state, of a lane or of an `Engine`, behind its first `updates` optimizer steps."""
        trainable_state.set_weights(self._module, saved)
        if updates:
            trainable_state.set_optimizer(self._optimizer, self.parameters, saved, updates)
        if self.rule is not None:
            self.rule.load(saved)
