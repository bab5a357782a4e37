"""Holding out whole documents by seed."""

import random

import pytest

from medtrain.data.holdout import HoldoutConfig, held_out
from medtrain.errors import DataError

DOCUMENTS = [f"d:{n // 3}" if n < 300 else f"single:{n}" for n in range(1000)]


def test_exactly_as_many_rows_and_never_half_a_document() -> None:
    chosen = held_out(DOCUMENTS, ["train"] * 1000, HoldoutConfig(rows=101, seed=1))
    assert sum(document in chosen for document in DOCUMENTS) == 101


def test_order_does_not_matter_and_the_seed_does() -> None:
    splits, shuffled = ["train"] * 1000, random.Random(0).sample(DOCUMENTS, 1000)
    first = held_out(DOCUMENTS, splits, HoldoutConfig(rows=100, seed=1))
    assert held_out(shuffled, splits, HoldoutConfig(rows=100, seed=1)) == first
    assert held_out(DOCUMENTS, splits, HoldoutConfig(rows=100, seed=2)) != first


def test_new_rows_leave_most_of_the_holdout_as_it_was() -> None:
    first = held_out(DOCUMENTS, ["train"] * 1000, HoldoutConfig(rows=100))
    more = [*DOCUMENTS, *(f"new:{n}" for n in range(100))]
    assert len(first & held_out(more, ["train"] * 1100, HoldoutConfig(rows=100))) > 0.8 * len(first)


def test_documents_of_other_splits_stay() -> None:
    splits = ["test" if n % 3 == 0 else "train" for n in range(1000)]
    chosen = held_out(DOCUMENTS, splits, HoldoutConfig(rows=300))
    assert not chosen & {d for d, s in zip(DOCUMENTS, splits, strict=True) if s == "test"}


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"rows=500.*only 10 train rows"):
        held_out(DOCUMENTS[:10], ["train"] * 10, HoldoutConfig())
    assert held_out(DOCUMENTS[:10], ["train"] * 10, HoldoutConfig(rows=0)) == set()
