"""AdaLoRA's allocation of rank: which triplets (a row of A, a singular value of E, a column of B) a budget keeps.

It sees weights and gradients whole and answers with new values for E. Who trains (DeepSpeed, a plain loop) reads the
gradients before its optimizer steps and writes the values wherever it keeps the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from medtrain.errors import ConfigError

Tensors = Mapping[str, torch.Tensor]


class Settings(Protocol):
    """What the allocator needs of an AdaLoRA config; see `adapters/adalora.py` for the meaning of each."""

    @property
    def orthogonality(self) -> float: ...
    @property
    def orth_form(self) -> str: ...
    @property
    def importance(self) -> str: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def gradients(self) -> str: ...


@dataclass(frozen=True)
class Budget:
    """How many triplets are kept at an optimizer step, counted from 1."""

    steps: int
    """T, the run's optimizer steps."""
    tinit: int
    """Steps at the whole rank."""
    tail: int
    """Last steps, in which the pattern is frozen."""
    every: int
    """Steps between two allocations in the phase between."""
    initial: int
    """b(0): triplets of all matrices together."""
    target: int
    """b(T)."""

    @classmethod
    def checked(cls, **numbers: int) -> "Budget":
        """A budget with a phase to prune in, and a step before its end to judge triplets by.

        Raises:
            ConfigError: the run is too short; the message has the arithmetic.
        """
        made = cls(**numbers)
        if made.tail < 0 or made.tinit >= made.freeze:
            raise ConfigError(
                f"adapter.schedule: {made.steps} optimizer steps - {made.tail} with a frozen pattern leaves "
                f"{made.freeze}, of which {made.tinit} come before the budget phase: nothing is left to prune in; "
                "train more epochs, lower batch.size, or set adapter.schedule: scaled"
            )
        if made.freeze < 2:  # a step's gradients count if it comes before the one that freezes
            raise ConfigError(
                f"adapter.schedule: {made.steps} optimizer step(s) - {made.tail} with a frozen pattern leaves "
                f"{made.freeze}, at which the pattern is made: no step before it says which triplets count; train 3 "
                "steps or more (more epochs, a lower batch.size) with adapter.schedule: scaled"
            )
        return made

    @property
    def freeze(self) -> int:
        """The step at which the pattern is made for good."""
        return self.steps - self.tail

    def at(self, step: int) -> int:
        """b(t): the cubic schedule of AdaLoRA."""
        if step <= self.tinit:
            return self.initial
        if step > self.freeze:
            return self.target
        left = 1 - (step - self.tinit) / (self.freeze - self.tinit)
        return int((self.initial - self.target) * left**3 + self.target)

    def allocates(self, step: int) -> bool:
        """Whether triplets are chosen anew at a step of the budget phase."""
        return self.tinit < step < self.freeze and step % self.every == 0


class Allocator:
    """The rule of one run: its state is part of every checkpoint, at full shape.

    Args:
        settings: the adapter's config.
        model: the PEFT model, attached.
        budget: the schedule.
    """

    def __init__(self, settings: Settings, model: Any, budget: Budget):
        self._settings, self._model, self.budget = settings, model, budget
        self._importance: dict[str, torch.Tensor] = {}
        self._uncertainty: dict[str, torch.Tensor] = {}
        self.pattern: dict[str, torch.Tensor] = {}
        """Name of E -> (r,) bool, true on triplets that the last allocation kept; empty before the first."""
        self.frozen = False
        self._kept = 0  # triplets of the pattern, on the host: counting them each step would wait for the device

    def regulariser(self, parameters: Tensors) -> torch.Tensor:
        """A scalar to add to the loss of an optimizer step, once: how far A and B are from orthogonal (eq. (A.2))."""
        by_shape: dict[torch.Size, list[torch.Tensor]] = {}
        for name, p in parameters.items():
            if _part(name) in ("A", "B"):
                rows = p if _part(name) == "A" else p.T  # (r, width)
                by_shape.setdefault(rows.shape, []).append(rows)
        # Matrices of one shape at once: on a GPU a launch for each would take longer than a small model's step.
        products = [stack @ stack.mT for stack in map(torch.stack, by_shape.values())]  # (n, r, r)
        apart = [(square - torch.eye(square.shape[-1], device=square.device)).flatten(1) for square in products]
        mean = self._settings.orth_form == "mean_frobenius"
        total = torch.cat([rest.norm(dim=1) if mean else rest.square().sum(1) for rest in apart])
        return self._settings.orthogonality * (total.mean() if mean else total.sum())

    def reads_gradients(self, step: int) -> bool:
        """Whether the step's gradients count."""
        return not self.frozen and step < self.budget.freeze

    @torch.no_grad()
    def after_step(self, step: int, parameters: Tensors, gradients: Tensors, clipped: float) -> dict[str, torch.Tensor]:
        """New values of E after optimizer step `step`, by name; empty where nothing changes.

        Args:
            step: counted from 1.
            parameters: the weights after the step, at full shape.
            gradients: those that the step was made with, before clipping.
            clipped: what clipping multiplied them with.
        """
        if self.reads_gradients(step):
            scale = clipped if self._settings.gradients == "after_clipping" else 1.0
            self._observe(list(gradients), [parameters[name] for name in gradients], list(gradients.values()), scale)
        if not self.frozen and step >= self.budget.freeze:
            self.pattern, self.frozen = self._choose(self.budget.target), True
        elif self.budget.allocates(step):
            self.pattern = self._choose(self.budget.at(step))
        elif not self.frozen:
            return {}
        return {name: parameters[name] * kept[:, None] for name, kept in self.pattern.items()}

    def _observe(self, names: list[str], values: Any, gradients: Any, scale: float) -> None:
        """Smooth |w * gradient| and its uncertainty, over all tensors with each operation."""
        seen = torch._foreach_mul(values, gradients)
        torch._foreach_mul_(seen, scale)
        torch._foreach_abs_(seen)
        if self._settings.importance == "raw":
            self._importance = dict(zip(names, seen, strict=True))
            return
        b1, b2 = self._settings.beta1, self._settings.beta2
        for held in (self._importance, self._uncertainty):
            for name, first in zip(names, seen, strict=True):
                if name not in held:
                    held[name] = torch.zeros_like(first)
        smooth, spread = [self._importance[name] for name in names], [self._uncertainty[name] for name in names]
        torch._foreach_mul_(smooth, b1)
        torch._foreach_add_(smooth, seen, alpha=1 - b1)
        torch._foreach_sub_(seen, smooth)
        torch._foreach_abs_(seen)
        torch._foreach_mul_(spread, b2)
        torch._foreach_add_(spread, seen, alpha=1 - b2)

    def scores(self) -> dict[str, torch.Tensor]:
        """S_i of each triplet, (r,) by name of E: that of E_i and the means over A_i and B_i."""

        def s(name: str) -> torch.Tensor:
            return self._importance[name] * self._uncertainty.get(name, torch.ones(()))

        names = sorted(name for name in self._importance if _part(name) == "E")
        return {
            e: s(e)[:, 0] + (s(e.replace("lora_E", "lora_A")).mean(1) + s(e.replace("lora_E", "lora_B")).mean(0))
            for e in names
        }

    def _choose(self, budget: int) -> dict[str, torch.Tensor]:
        """The `budget` triplets of the highest scores, exactly as many: equal ones by place."""
        scores = self.scores()
        order = torch.cat(list(scores.values())).argsort(stable=True)
        kept = torch.ones(len(order), dtype=torch.bool, device=order.device)
        kept[order[: len(order) - budget]] = False
        self._kept = budget
        return dict(zip(scores, kept.split([len(score) for score in scores.values()]), strict=True))

    def metrics(self) -> dict[str, float]:
        """`mean_rank`: triplets kept, per matrix."""
        if not self.pattern:
            return {}
        return {"mean_rank": self._kept / len(self.pattern)}

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that a run must go on with, on the host."""
        parts = {"importance": self._importance, "uncertainty": self._uncertainty, "pattern": self.pattern}
        held = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        held |= {"frozen": torch.tensor(self.frozen)}
        return {f"allocator/{name}": tensor.to("cpu", copy=True) for name, tensor in held.items()}

    def load(self, state: Tensors) -> None:
        """Go on from `state()`, on the devices that the weights are on."""
        devices = {f"model.{name}": parameter.device for name, parameter in self._model.named_parameters()}
        parts = {"importance": self._importance, "uncertainty": self._uncertainty, "pattern": self.pattern}
        for key, tensor in state.items():
            kind, _, rest = key.partition("/")
            part, _, name = rest.partition("/")
            if kind == "allocator" and part in parts:
                parts[part][name] = tensor.to(devices[name], copy=True)
        self.frozen = bool(state["allocator/frozen"])
        self._kept = sum(int(kept.sum()) for kept in self.pattern.values())

    def finish(self) -> None:
        """Write schedule and pattern where PEFT looks for them when it saves: it then saves the kept triplets alone."""
        config = self._model.peft_config["default"]
        config.total_step, config.tinit, config.tfinal = self.budget.steps, self.budget.tinit, self.budget.tail
        config.deltaT = self.budget.every
        prefix = "model.base_model.model."
        if self.pattern:
            config.rank_pattern = {name.removeprefix(prefix): kept.tolist() for name, kept in self.pattern.items()}


def _part(name: str) -> str:
    """A, B or E of a parameter's name `….lora_A.default`."""
    return name.rpartition(".lora_")[2][:1]
