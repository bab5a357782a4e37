"""One optimizer step of several lanes over one base, and which micro-batches of theirs share a pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medtrain.errors import ConfigError, TrainingError
from medtrain.train import adapters, checkpointing, timing
from medtrain.train.batches import join
from medtrain.train.lanes.lane import Lane, LaneStep
from medtrain.train.lanes.layers import Present, install, uninstall
from medtrain.train.lanes.lowrank import Part
from medtrain.train.lanes.twin import twin
from medtrain.train.loss import LossModule
from medtrain.train.order import MicroBatch

PASS_TOKENS = 1024
"""Tokens above which lanes no longer share a pass; see `benchmarks/experts.py`."""


def passes(tokens: Mapping[str, Sequence[int]], limit: int) -> list[list[tuple[str, int]]]:
    """Which (lane, number of its micro-batch) run together.

    The first micro-batches of all lanes come first, then their second ones, and so on; a lane without one is absent.
    Where a turn has more than `limit` tokens it is cut; a micro-batch longer than that runs alone.

    Args:
        tokens: by lane, the tokens of each of its micro-batches.
        limit: most tokens of lanes that share a pass.
    """
    found: list[list[tuple[str, int]]] = []
    for turn in range(max(map(len, tokens.values()), default=0)):
        held = limit + 1
        for lane, lengths in tokens.items():
            if turn < len(lengths):
                if held + lengths[turn] > limit:
                    found.append([])
                    held = 0
                found[-1].append((lane, turn))
                held += lengths[turn]
    return found


class LaneEngine:
    """One frozen base that lanes train over; they come and go between steps.

    Args:
        base: what `load_base` gave, with packed attention; it stays as it is.
        pass_tokens: lanes share a pass up to so many tokens.
        recomputed: layers whose activations are recomputed, as in `EngineConfig.gradient_checkpointing`.

    Raises:
        ConfigError: the base has dropout of its own, which all lanes would draw together.
    """

    def __init__(self, base: Any, *, pass_tokens: int = PASS_TOKENS, recomputed: str = "none"):
        dropouts = {float(module.p) for module in base.modules() if isinstance(module, torch.nn.Dropout)}
        rate = max(dropouts | {float(getattr(base.config, "attention_dropout", 0.0))})
        if rate:
            raise ConfigError(
                f"model.base: it has dropout of its own ({rate}); train its adapters in runs of their own"
            )
        self._base, self._present, self._pass_tokens = base, Present(), pass_tokens
        self._shared = twin(base).train()
        checkpointing.enable(self._shared, recomputed, self._present.contexts)
        self._module = LossModule(self._shared)
        self._clock = timing.Clock(base.device)
        self.lanes: dict[str, Lane] = {}
        """The lanes that are in, by name."""

    def attach(self, adapter: dict[str, Any], seed: int) -> Any:
        """A fresh adapter over the base's weights, as a `peft.PeftModel` for a new lane."""
        return adapters.attach(twin(self._base), adapter, seed)

    def add(self, name: str, lane: Lane) -> None:
        """Let a lane in.

        Raises:
            ConfigError: the name is taken, or its adapter cannot be shared.
        """
        if name in self.lanes:
            raise ConfigError(f"lane {name}: there is one of this name; give each expert a name of its own")
        install(self._shared, self._present, name, lane.model)
        self.lanes[name] = lane

    def remove(self, name: str) -> Lane:
        """Let a lane leave, with its state."""
        uninstall(self._shared, name)
        return self.lanes.pop(name)

    def step(self, steps: Mapping[str, LaneStep]) -> dict[str, dict[str, float]]:
        """Train one global batch of each of the named lanes; a lane that is not named stands still.

        Each lane's loss is the sum over its own trained tokens, divided once by their number, and its norm, clipping,
        AdamW and rule are its own: what it trains is what it would train alone. The host waits for the device once.

        Returns:
            By lane, what `Engine.step` returns but `leaving`; memory and seconds are those of all lanes together.

        Raises:
            TrainingError: a lane's batch trains no token; nothing has changed then.
        """
        trained = {}
        for name, step in steps.items():
            try:
                trained[name] = self.lanes[name].trained_tokens(step.micro_batches)
            except TrainingError as error:
                raise TrainingError(f"lane {name}: {error}") from None
        micro_tokens = {n: [self.lanes[n].tokens(m) for m in step.micro_batches] for n, step in steps.items()}
        sums = {name: torch.zeros((), dtype=torch.float64, device=self._base.device) for name in steps}
        for together in passes(micro_tokens, self._pass_tokens):
            chosen = [(name, steps[name].micro_batches[number]) for name, number in together]
            losses = self._learn(chosen, [1 / trained[name] for name, _ in chosen])
            for (name, _), loss in zip(chosen, losses, strict=True):
                sums[name] += loss
        with self._clock.part("optimizer"):
            norms = {name: self.lanes[name].gradient_norm() for name in steps}
            read = torch.stack([value.double() for value in (*sums.values(), *norms.values())]).tolist()
            norms_read = dict(zip(steps, read[len(steps) :], strict=True))
            for name, step in steps.items():
                self.lanes[name].update(step, norms[name], norms_read[name])
        memory_gib, step_s = timing.peak_memory_gib(self._base.device), self._clock.lap()
        spent = {"memory_gib": memory_gib, "step_s": step_s, **self._clock.read()}
        return {
            name: {
                "loss": loss / trained[name],
                "tokens": sum(micro_tokens[name]),
                "trained_tokens": trained[name],
                "gradient_norm": norms_read[name],
                **(rule.metrics() if (rule := self.lanes[name].rule) is not None else {}),
                **spent,
            }
            for name, loss in zip(steps, read, strict=False)
        }

    def _learn(self, chosen: Sequence[tuple[str, MicroBatch]], weights: Sequence[float]) -> torch.Tensor:
        """One pass, forward and backward; the lanes' summed losses, (K,) float64 on the device."""
        with self._clock.part("data"):
            batches = [self.lanes[name].collate(micro) for name, micro in chosen]
            batch = join(batches).to(self._base.device)
        if batch.trained_tokens == 0:
            return torch.zeros(len(chosen), dtype=torch.float64, device=self._base.device)
        self._present.parts, start = [], 0
        for (name, micro), own in zip(chosen, batches, strict=True):
            stop = start + own.input_ids.shape[1]
            generator = self.lanes[name].generator.manual_seed(micro.seed)
            self._present.parts.append(Part(name, start, stop, generator))
            start = stop
        with self._clock.part("forward"):
            losses = self._module.token_losses(batch).split([own.trained_tokens for own in batches])
        with self._clock.part("backward"):
            # Lanes share no trained tensor: the gradient of the sum is each lane's own.
            torch.stack([own.sum() * weight for own, weight in zip(losses, weights, strict=True)]).sum().backward()
        return torch.stack([own.detach().sum().double() for own in losses])
