"""Samples to tensors: padded rows, or one packed row; and which positions predict a trained token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medtrain.tokens.shards import Sample
from medtrain.train.order import BatchConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch on its device."""

    input_ids: torch.Tensor
    """(B, T) int64; packed: (1, sum of lengths)."""
    position_ids: torch.Tensor
    """(B, T) int64, from 0 in each sample."""
    attention_mask: torch.Tensor | None
    """(B, T) bool, true on real tokens; None when packed."""
    behind_padding: bool
    """Whether padding stands before real tokens, which would see it if they were not told."""
    lengths: tuple[int, ...]
    """Tokens of each sample, in order."""
    predictors: torch.Tensor
    """(N,) int64 positions in the flattened (B*T) whose next token is trained."""
    targets: torch.Tensor
    """(N,) int64 the tokens they must predict."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            # From pinned memory the copy runs behind the computation of the micro-batch before.
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

        mask = None if self.attention_mask is None else moved(self.attention_mask)
        parts = (self.input_ids, self.position_ids, self.predictors, self.targets)
        ids, positions, predictors, targets = (moved(tensor) for tensor in parts)
        return Batch(ids, positions, mask, self.behind_padding, self.lengths, predictors, targets)

    @property
    def trained_tokens(self) -> int:
        """N, the tokens that this micro-batch's loss sums over."""
        return len(self.targets)


def trained_positions(sample: Sample) -> np.ndarray:
    """The positions of a sample's trained tokens, without position 0, which nothing predicts."""
    spans = [np.arange(max(1, start), end) for start, end in sample.trained]
    return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


def collate(samples: Sequence[Sample], batch: BatchConfig, pad_id: int) -> Batch:
    """Lay samples out as the config says; an empty sequence gives a batch of one token that trains nothing."""
    if not samples:
        one = torch.full((1, 1), pad_id)
        mask = None if batch.layout == "packed" else torch.ones(1, 1, dtype=torch.bool)
        none = torch.zeros(0, dtype=torch.int64)
        return Batch(one, torch.zeros(1, 1, dtype=torch.int64), mask, False, (1,), none, none)
    lengths = tuple(len(sample.input_ids) for sample in samples)
    if batch.layout == "packed":
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        ids = np.concatenate([sample.input_ids for sample in samples])[None]
        positions = np.concatenate([np.arange(length) for length in lengths])[None]
        mask = None
    else:
        width = max(lengths)
        ids = np.full((len(samples), width), pad_id)
        positions = np.zeros((len(samples), width), dtype=np.int64)
        real = np.zeros((len(samples), width), dtype=bool)
        starts = np.zeros(len(samples), dtype=np.int64)
        for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            first = 0 if batch.pad_side == "right" else width - length
            ids[row, first : first + length] = sample.input_ids
            positions[row, first : first + length] = np.arange(length)
            real[row, first : first + length] = True
            starts[row] = row * width + first
        mask = torch.from_numpy(real)
    trained = np.concatenate([start + trained_positions(sample) for start, sample in zip(starts, samples, strict=True)])
    flat = ids.reshape(-1)
    return Batch(
        torch.from_numpy(ids.astype(np.int64)),
        torch.from_numpy(positions.astype(np.int64)),
        mask,
        batch.layout == "padded" and batch.pad_side == "left",
        lengths,
        torch.from_numpy(trained.astype(np.int64) - 1),
        torch.from_numpy(flat[trained.astype(np.int64)].astype(np.int64)),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Packed micro-batches end to end as one; samples and trained tokens keep their order."""
    starts = np.concatenate([[0], np.cumsum([batch.input_ids.shape[1] for batch in batches])[:-1]]).tolist()
    return Batch(
        torch.cat([batch.input_ids for batch in batches], dim=1),
        torch.cat([batch.position_ids for batch in batches], dim=1),
        None,
        False,
        tuple(length for batch in batches for length in batch.lengths),
        torch.cat([batch.predictors + start for batch, start in zip(batches, starts, strict=True)]),
        torch.cat([batch.targets for batch in batches]),
    )
