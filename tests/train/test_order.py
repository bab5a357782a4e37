"""The order of training: each row once an epoch, the same batches whatever the layout and the number of workers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain.config import parse
from medtrain.errors import ConfigError, TrainingError
from medtrain.train.order import BatchConfig, MicroBatch, Plan, derive_seed, layout, share

CAPACITY = 64


def plan(count: int, batch: BatchConfig, *, seed: int = 7, epochs: int = 2) -> Plan:
    """A plan over `count` rows numbered from 100 in steps of 3, so that a position is never a row number."""
    lengths = np.random.default_rng(count).integers(1, CAPACITY + 1, count)
    return Plan(np.arange(count) * 3 + 100, lengths, batch, seed=seed, epochs=epochs)


def rows_of(micro_batches: list[MicroBatch]) -> list[int]:
    """The rows of a step in the order of its micro-batches."""
    return [row for micro in micro_batches for row in micro.rows]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 70),
    size=st.integers(1, 90),
    unit=st.sampled_from(["samples", "tokens"]),
    kind=st.sampled_from(["padded", "packed"]),
)
def test_each_row_is_trained_once_an_epoch(count: int, size: int, unit: str, kind: str) -> None:
    batch = BatchConfig(unit=unit, size=size, layout=kind, micro_samples=3, micro_tokens=CAPACITY)
    made = plan(count, batch)
    seen: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    for step in range(made.steps):
        seen[made.position(step)[0]].update(rows_of(made.at(step)))
    every = Counter((np.arange(count) * 3 + 100).tolist())
    assert seen == {0: every, 1: every}
    assert made.steps == sum(made.steps_in_epoch)


def test_epochs_and_seeds_differ_in_order() -> None:
    batch = BatchConfig(size=1, layout="padded")
    orders = [[rows_of(plan(40, batch, seed=seed).at(step))[0] for step in range(80)] for seed in (7, 7, 8)]
    assert orders[0] == orders[1]
    assert orders[0][:40] != orders[0][40:]
    assert orders[0] != orders[2]


def test_packed_and_padded_train_the_same_batches() -> None:
    packed = plan(50, BatchConfig(size=16, layout="packed", micro_tokens=CAPACITY))
    padded = plan(50, BatchConfig(size=16, layout="padded", micro_samples=4))
    assert packed.steps == padded.steps
    for step in range(packed.steps):
        assert sorted(rows_of(packed.at(step))) == sorted(rows_of(padded.at(step)))


def test_a_batch_of_tokens_is_as_large_as_fits() -> None:
    lengths = np.random.default_rng(3).integers(1, CAPACITY + 1, 40)
    made = Plan(np.arange(40), lengths, BatchConfig(unit="tokens", size=200), seed=1, epochs=1)
    held = [sum(int(lengths[row]) for row in rows_of(made.at(step))) for step in range(made.steps)]
    assert max(held) <= 200
    assert min(held[:-1]) > 200 - CAPACITY


def test_a_row_longer_than_a_batch_of_tokens_is_a_batch_of_its_own() -> None:
    made = Plan(np.arange(3), np.array([5, 50, 5]), BatchConfig(unit="tokens", size=10), seed=1, epochs=1)
    assert sorted(row for step in range(made.steps) for row in rows_of(made.at(step))) == [0, 1, 2]


def test_every_micro_batch_has_a_seed_of_its_own() -> None:
    made = plan(60, BatchConfig(size=16, layout="padded", micro_samples=4))
    seeds = [micro.seed for step in range(made.steps) for micro in made.at(step)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(42, 0, 0, 0) == 347_772_239_599_717_967


def test_a_padded_micro_batch_holds_neighbours_in_length() -> None:
    groups = layout([9, 1, 8, 2, 7, 3], BatchConfig(layout="padded", micro_samples=2))
    assert groups == [[1, 3], [5, 4], [2, 0]]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 20), world_size=st.integers(1, 9))
def test_workers_share_micro_batches_in_equal_counts(count: int, world_size: int) -> None:
    micros = [MicroBatch((number,), number) for number in range(count)]
    parts = [share(micros, rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    turns = [micro for turn in zip(*parts, strict=True) for micro in turn if micro is not None]
    assert turns == micros


def test_a_step_beyond_the_run_is_refused() -> None:
    made = plan(10, BatchConfig(size=4, micro_tokens=CAPACITY))
    for step in (-1, made.steps):
        with pytest.raises(IndexError, match=f"step {step}: the run has steps 0 to 5"):
            made.at(step)


def test_what_cannot_be_trained_is_refused() -> None:
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(TrainingError, match="no rows to train on"):
        Plan(none, none, BatchConfig(), seed=0, epochs=1)
    with pytest.raises(TrainingError, match=r"micro_tokens=32: the longest sample has 33 tokens"):
        Plan(np.arange(2), np.array([1, 33]), BatchConfig(micro_tokens=32), seed=0, epochs=1)
    with pytest.raises(ConfigError, match=r"size=0: at least 1 is needed"):
        parse(BatchConfig, {"size": 0})
