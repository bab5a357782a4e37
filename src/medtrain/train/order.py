"""Which samples are trained when: a pure function of (seed, epoch, step), never of workers or of what crashed before.

A global batch is composed first, from the seed; its micro-batches are the atoms that workers share out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from medtrain.config import Config
from medtrain.errors import TrainingError
from medtrain.train.packing import best_fit

Ints = npt.NDArray[np.int64]


class BatchConfig(Config):
    """What one optimizer step trains on, whatever the number of devices."""

    unit: Literal["samples", "tokens"] = "samples"
    """What `size` counts."""
    size: int = 64
    """Samples or tokens of a global batch (BioQwen: 4 a device x accumulation 4 x 4 devices = 64 samples)."""
    layout: Literal["padded", "packed"] = "packed"
    """Rows of one sample each, padded; or samples end to end with block-exact attention. The batch is the same."""
    micro_samples: int = 4
    """Samples in a padded micro-batch."""
    micro_tokens: int = 4096
    """Tokens in a packed micro-batch, at least the longest sample."""
    pad_side: Literal["right", "left"] = "right"
    """Where padded rows get their padding tokens."""

    @model_validator(mode="after")
    def _positive(self) -> "BatchConfig":
        for name in ("size", "micro_samples", "micro_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        return self


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The atom of training: rows that one device runs at once, and the seed of every random draw in it."""

    rows: tuple[int, ...]
    """Row numbers in the token artifact."""
    seed: int
    """Seed of dropout while this micro-batch runs, 63 bits."""


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from a tuple of integers, the same on every machine."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Plan:
    """The whole run's order: `plan.at(step)` gives that step's micro-batches.

    Args:
        rows: (N,) row numbers to train on, in artifact order.
        lengths: (N,) their lengths in tokens.
        batch: size and layout.
        seed: seed of order and dropout.
        epochs: how often each row is trained.

    Raises:
        TrainingError: there are no rows, or one is longer than a packed micro-batch holds.
    """

    def __init__(self, rows: Ints, lengths: Ints, batch: BatchConfig, *, seed: int, epochs: int):
        if len(rows) == 0:
            raise TrainingError(
                "no rows to train on: the token artifact has none in this selection; check its categories"
            )
        if batch.layout == "packed" and int(lengths.max()) > batch.micro_tokens:
            raise TrainingError(
                f"batch.micro_tokens={batch.micro_tokens}: the longest sample has {lengths.max()} tokens; "
                f"give at least that many, or layout: padded"
            )
        self._rows, self._lengths, self._batch, self._seed = rows, lengths, batch, seed
        self._epochs = [_cut(self._permutation(epoch), lengths, batch) for epoch in range(epochs)]
        self.steps_in_epoch = [len(cuts) for cuts in self._epochs]
        self.steps = sum(self.steps_in_epoch)

    def _permutation(self, epoch: int) -> Ints:
        return np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(len(self._rows))

    def position(self, step: int) -> tuple[int, int]:
        """The (epoch, step in that epoch) of a step of the run.

        Raises:
            IndexError: the run has no such step.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step}: the run has steps 0 to {self.steps - 1}")
        for epoch, count in enumerate(self.steps_in_epoch):
            if step < count:
                return epoch, step
            step -= count
        raise AssertionError("the epochs' steps do not sum to the run's")

    def at(self, step: int) -> list[MicroBatch]:
        """The micro-batches of a step, in their order."""
        epoch, inner = self.position(step)
        chosen = self._permutation(epoch)[slice(*self._epochs[epoch][inner])]
        groups = layout(self._lengths[chosen], self._batch)
        return [
            MicroBatch(
                tuple(int(self._rows[chosen[item]]) for item in group), derive_seed(self._seed, epoch, inner, number)
            )
            for number, group in enumerate(groups)
        ]


def _cut(permutation: Ints, lengths: Ints, batch: BatchConfig) -> list[tuple[int, int]]:
    """Cut a permuted epoch into global batches: (first, behind last) positions."""
    count = len(permutation)
    if batch.unit == "samples":
        return [(start, min(start + batch.size, count)) for start in range(0, count, batch.size)]
    cuts, start, held = [], 0, 0
    for position, row in enumerate(permutation):
        length = int(lengths[row])
        if held and held + length > batch.size:
            cuts.append((start, position))
            start, held = position, 0
        held += length
    return [*cuts, (start, count)]


def layout(lengths: Sequence[int] | Ints, batch: BatchConfig) -> list[list[int]]:
    """Positions of a global batch, grouped to micro-batches.

    Packed: best fit into `micro_tokens`. Padded: neighbours in length share a micro-batch, so that little is padding.
    """
    sizes = [int(length) for length in lengths]
    if batch.layout == "packed":
        return best_fit(sizes, batch.micro_tokens)
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    return [order[start : start + batch.micro_samples] for start in range(0, len(order), batch.micro_samples)]


def share(micro_batches: Sequence[MicroBatch], rank: int, world_size: int) -> list[MicroBatch | None]:
    """One rank's part of a step, in order; `None` stands for an empty micro-batch of weight 0.

    Every rank gets the same count, because ZeRO-3 needs equally many forward passes.
    """
    turns = -(-len(micro_batches) // world_size)
    mine: list[MicroBatch | None] = list(micro_batches[rank::world_size])
    return mine + [None] * (turns - len(mine))
