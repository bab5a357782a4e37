"""Collation: what a model is given decodes back to the samples, and targets are exactly the trained tokens."""

import numpy as np
import pytest
import torch

from medtrain.tokens.shards import Sample
from medtrain.train.batches import Batch, collate, join, trained_positions
from medtrain.train.order import BatchConfig

PAD = 0
LAYOUTS = [("padded", "right"), ("padded", "left"), ("packed", "right")]


def sample(ids: list[int], *spans: tuple[int, int]) -> Sample:
    """A sample of these ids; the ids of trained tokens are the test's to choose."""
    return Sample("s", "s", "qa", "QA", "en", "train", np.array(ids, dtype=np.int32), spans)


SAMPLES = [
    sample([11, 12, 13, 14, 15, 16, 17], (2, 4), (6, 7)),
    sample([21, 22, 23], (0, 3)),
    sample([31, 32, 33, 34, 35], (4, 5)),
    sample([41, 42]),
]
TRAINED = [13, 14, 17, 22, 23, 35]
PREDICTORS = [12, 13, 16, 21, 22, 34]


def real(batch: Batch) -> torch.Tensor:
    """Which flattened positions hold a sample's token."""
    mask = batch.attention_mask
    return torch.ones(batch.input_ids.numel(), dtype=torch.bool) if mask is None else mask.reshape(-1)


@pytest.mark.parametrize(("layout", "side"), LAYOUTS)
def test_targets_are_the_trained_tokens_and_predictors_stand_right_before_them(layout: str, side: str) -> None:
    batch = collate(SAMPLES, BatchConfig(layout=layout, pad_side=side), PAD)
    flat = batch.input_ids.reshape(-1)
    assert batch.targets.tolist() == TRAINED
    assert flat[batch.predictors].tolist() == PREDICTORS
    assert torch.equal(flat[batch.predictors + 1], batch.targets)
    assert batch.trained_tokens == len(TRAINED)
    assert bool(real(batch)[batch.predictors].all())
    assert batch.lengths == (7, 3, 5, 2)


@pytest.mark.parametrize(("layout", "side"), LAYOUTS)
def test_real_positions_hold_the_samples_in_order(layout: str, side: str) -> None:
    batch = collate(SAMPLES, BatchConfig(layout=layout, pad_side=side), PAD)
    kept = real(batch)
    ids = [token for item in SAMPLES for token in item.input_ids.tolist()]
    positions = [position for item in SAMPLES for position in range(len(item.input_ids))]
    assert batch.input_ids.reshape(-1)[kept].tolist() == ids
    assert batch.position_ids.reshape(-1)[kept].tolist() == positions
    assert batch.input_ids.reshape(-1)[~kept].eq(PAD).all()
    assert batch.input_ids.dtype == batch.position_ids.dtype == batch.targets.dtype == torch.int64


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_on_the_asked_side(side: str) -> None:
    batch = collate(SAMPLES, BatchConfig(layout="padded", pad_side=side), PAD)
    mask = batch.attention_mask
    assert mask is not None and mask.shape == (4, 7) and mask.dtype == torch.bool
    edge = mask[:, 0 if side == "right" else -1]
    assert bool(edge.all())
    assert mask.sum(dim=1).tolist() == [7, 3, 5, 2]
    assert batch.behind_padding == (side == "left")


def test_a_packed_batch_has_one_row_and_no_mask() -> None:
    batch = collate(SAMPLES, BatchConfig(layout="packed", pad_side="left"), PAD)
    assert batch.input_ids.shape == (1, 17)
    assert batch.attention_mask is None and not batch.behind_padding


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_an_empty_batch_trains_nothing(layout: str) -> None:
    batch = collate([], BatchConfig(layout=layout), PAD)
    assert batch.input_ids.shape == (1, 1)
    assert batch.trained_tokens == 0
    assert (batch.attention_mask is None) == (layout == "packed")


def test_joined_batches_are_the_batch_of_all_their_samples() -> None:
    packed = BatchConfig(layout="packed")
    joint = join(
        [collate(SAMPLES[:1], packed, PAD), collate(SAMPLES[3:], packed, PAD), collate(SAMPLES[1:3], packed, PAD)]
    )
    whole = collate([SAMPLES[0], SAMPLES[3], *SAMPLES[1:3]], packed, PAD)
    assert joint.lengths == whole.lengths and joint.attention_mask is None
    for name in ("input_ids", "position_ids", "predictors", "targets"):
        assert torch.equal(getattr(joint, name), getattr(whole, name))


def test_nothing_predicts_the_first_token() -> None:
    assert trained_positions(SAMPLES[1]).tolist() == [1, 2]
    assert trained_positions(SAMPLES[3]).tolist() == []


def test_a_device_move_keeps_everything() -> None:
    for layout in ("padded", "packed"):
        batch = collate(SAMPLES, BatchConfig(layout=layout, pad_side="left"), PAD)
        moved = batch.to(torch.device("cpu"))
        assert torch.equal(moved.input_ids, batch.input_ids) and torch.equal(moved.targets, batch.targets)
        assert (moved.attention_mask is None) == (batch.attention_mask is None)
        assert moved.behind_padding == batch.behind_padding
