"""Held-out rows and their losses per source."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from medtrain.tokens.shards import SCHEMA, Samples
from medtrain.train.order import BatchConfig
from medtrain.train.validation import choose_rows, micro_batches, per_source


def samples(sources: str) -> Samples:
    """One row for each letter, of the source that the letter names; lengths 1 to 9 in turn."""
    rows = []
    for number, source in enumerate(sources):
        length = number % 9 + 1
        texts = {"id": str(number), "source": source, "task": "qa", "category": "QA", "language": "en"}
        numbers = {"length": length, "trained_tokens": 1, "input_ids": list(range(length)), "trained": [[0, 1]]}
        rows.append({**texts, "split": "validation", **numbers})
    return Samples(pa.Table.from_pylist(rows, schema=SCHEMA))


def test_small_sources_are_not_crowded_out() -> None:
    made = samples("a" * 20 + "b" * 3 + "c")
    chosen = choose_rows(made, np.arange(24), 8)
    assert Counter(made.sources[row] for row in chosen) == {"a": 4, "b": 3, "c": 1}
    assert chosen.tolist() == [0, 1, 2, 3, 20, 21, 22, 23]


@pytest.mark.parametrize("limit", [0, 1, 24, 500])
def test_never_more_than_asked_and_never_twice(limit: int) -> None:
    chosen = choose_rows(samples("abc" * 8), np.arange(24), limit)
    assert len(set(chosen.tolist())) == len(chosen) == min(limit, 24)
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_each_micro_batch_is_of_one_source_and_each_row_in_one(layout: str) -> None:
    made = samples("abcab" * 4)
    rows = np.arange(1, 20)
    found = micro_batches(made, rows, BatchConfig(layout=layout, micro_samples=3, micro_tokens=12))
    assert sorted(row for _, micro in found for row in micro.rows) == rows.tolist()
    assert all({made.sources[row] for row in micro.rows} == {source} for source, micro in found)


def test_no_rows_are_no_micro_batches() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert micro_batches(samples("ab"), none, BatchConfig()) == []
    assert per_source([], []) == {}


def test_means_are_per_token() -> None:
    found = per_source(["a", "b", "a"], [(10.0, 5), (6.0, 1), (2.0, 1)])
    assert found == pytest.approx({"a": 2.0, "b": 6.0, "": 18 / 7})


def test_a_source_without_trained_tokens_has_no_mean() -> None:
    assert per_source(["a", "b"], [(1.0, 1), (0.0, 0)]) == {"a": 1.0, "": 1.0}
