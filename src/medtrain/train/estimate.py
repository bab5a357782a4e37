"""Memory, steps and time of a stage before anything is loaded, for `--dry-run`.

Time is a count of operations over an assumed share of a device's peak, so it is right to a factor of two at best.
"""

import re
from dataclasses import dataclass

import numpy as np

from medtrain.errors import ConfigError
from medtrain.train.checkpointing import recomputed
from medtrain.train.footprint import ModelShape, memory
from medtrain.train.order import Ints, Plan
from medtrain.train.settings import TrainConfig

GIB = 2**30
DEVICES = {"rtx3090": 71e12, "rtx4090": 165e12, "a100": 312e12, "h100": 989e12, "h200": 989e12, "cpu-core": 0.4e12}
"""Peak bfloat16 FLOP/s with float32 sums, dense (NVIDIA's data sheets). A CPU core's is set so that the share below
gives 4e10: 3e10 was measured with AVX2 in float32 (benchmarks/train_step.py); emulated bfloat16 has a tenth of it."""
UTILISATION = 0.10
"""Assumed share of the peak. BioQwen's table (stage 2 on four RTX 3090: 6,700, 3,100 and 2,750 tokens/s for 0.5, 1.5
and 1.8 billion weights) means 0.08, 0.11 and 0.11 of it: unpacking 4-bit weights and small layers take the rest."""
RESERVE_GIB, SLACK = 0.8, 1.1
"""What a CUDA context takes, and how much more than the tensors the allocator holds."""


@dataclass(frozen=True)
class Estimate:
    """A stage's cost on one of its devices."""

    parts: dict[str, int]
    """Bytes on a device by what they are for, at the largest micro-batch."""
    rows: int
    tokens_per_epoch: int
    steps: int
    step_s: float
    total_s: float
    epoch_s: float
    tokens_per_s: float
    """Real tokens of all workers together."""
    device: str
    workers: int
    fits: bool | None
    """Whether it fits in the given memory with a CUDA context and slack; None where no memory was given."""

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def estimate(
    shape: ModelShape,
    config: TrainConfig,
    lengths: Ints,
    workers: int,
    device: str,
    device_memory_gib: float | None = None,
) -> Estimate:
    """What a stage takes.

    Args:
        shape: what `shape_of` gave.
        config: the stage.
        lengths: (N,) tokens of each row that is trained.
        workers: devices.
        device: a key of `DEVICES`.
        device_memory_gib: memory of one device in GiB.

    Raises:
        ConfigError: there is no such device class.
        TrainingError: see `Plan`.
    """
    flops_per_s = peak(device)
    plan = Plan(np.arange(len(lengths)), lengths, config.batch, seed=config.seed, epochs=config.epochs)
    steps = min(plan.steps, config.max_steps or plan.steps)
    parts = memory(shape, config, _largest_micro_batch(config, lengths), workers, gpu=device != "cpu-core")
    tokens = int(lengths.sum())
    step_tokens = tokens * config.epochs / plan.steps
    flops = token_flops(shape, config, float(lengths.mean())) * _padding(plan, config, lengths)
    step_s = step_tokens * flops / (flops_per_s * UTILISATION * workers)
    needed = sum(parts.values()) * SLACK + RESERVE_GIB * GIB
    return Estimate(
        parts=parts,
        rows=len(lengths),
        tokens_per_epoch=tokens,
        steps=steps,
        step_s=step_s,
        total_s=steps * step_s,
        epoch_s=plan.steps / config.epochs * step_s,
        tokens_per_s=step_tokens / step_s,
        device=device,
        workers=workers,
        fits=None if device_memory_gib is None else needed <= device_memory_gib * GIB,
    )


def peak(device: str) -> float:
    """FLOP/s of a device class.

    Raises:
        ConfigError: there is none of this name.
    """
    if device not in DEVICES:
        raise ConfigError(f"device={device!r}: unknown; there are: {', '.join(DEVICES)}")
    return DEVICES[device]


def runs_per_device(found: Estimate, device_memory_gib: float) -> int:
    """How many runs of one worker fit on one device together, each with a CUDA context of its own; at least one."""
    needed = found.bytes * SLACK + RESERVE_GIB * GIB
    return max(1, int(device_memory_gib * GIB / needed))


def _largest_micro_batch(config: TrainConfig, lengths: Ints) -> int:
    batch = config.batch
    if batch.layout == "packed":
        held = int(np.sort(lengths)[-batch.size :].sum()) if batch.unit == "samples" else batch.micro_tokens
        return min(batch.micro_tokens, held)
    return min(batch.micro_samples, len(lengths)) * int(lengths.max())


def _padding(plan: Plan, config: TrainConfig, lengths: Ints) -> float:
    """Computed over real tokens, from a few steps of the plan."""
    if config.batch.layout == "packed":
        return 1.0
    micros = [micro.rows for step in range(min(8, plan.steps)) for micro in plan.at(step)]
    return float(sum(len(m) * lengths[list(m)].max() for m in micros) / sum(lengths[list(m)].sum() for m in micros))


def device_class(name: str) -> str | None:
    """The key of `DEVICES` for a device by its own name, such as `NVIDIA GeForce RTX 3090`."""
    for key in DEVICES:
        spaced = re.sub(r"(\D)(\d)", r"\1 ?\2", key)  # an RTX A1000 is no A100
        if re.search(rf"\b{spaced}(?!\d)", name.lower()):
            return key
    return None


def token_flops(
    shape: ModelShape, config: TrainConfig, length: float, *, trained: float = 1.0, recomputing: bool = True
) -> float:
    """Operations a token: of frozen weights forward and back to their inputs, of the adapter all.

    Args:
        shape: what `shape_of` gave.
        config: the stage.
        length: mean tokens of a row.
        trained: share of the tokens that are trained: the head runs on no other.
        recomputing: count the layers that are computed twice; off for the share of the peak that training uses (MFU).
    """
    heads, _, size = shape.attention
    weights = sum(out * inner for out, inner in shape.linears) + trained * shape.hidden * shape.vocabulary
    attention = shape.layers * heads * size * length  # causal: half of the length, for keys and for values
    forward = 2 * (weights + attention)
    again = len(recomputed(shape.layers, config.engine.gradient_checkpointing)) / shape.layers
    passes = 2 + again * recomputing
    return passes * forward + attention * 2 + (passes + 1) * 2 * shape.adapter_elements


def render(found: Estimate) -> str:
    """The estimate as lines for `--dry-run`."""
    lines = [f"  {name:<16} {size / GIB:8.3f} GiB" for name, size in found.parts.items() if size]
    verdict = {None: "", True: ", fits", False: ", does NOT fit"}[found.fits]
    return "\n".join(
        [
            f"plan: {found.rows:,} rows, {found.tokens_per_epoch:,} tokens an epoch, {found.steps:,} steps",
            "memory of a device at the largest micro-batch (counted; activations and logits by formula):",
            *lines,
            f"  {'together':<16} {found.bytes / GIB:8.3f} GiB{verdict}",
            f"time on {found.workers} x {found.device} at {UTILISATION:.0%} of its peak (a guess to a factor of two): "
            f"{found.step_s:.2f} s a step, {found.tokens_per_s:,.0f} tokens/s, {found.epoch_s:,.0f} s an epoch, "
            f"{found.total_s / 3600:.2f} h in all",
        ]
    )
