"""The vectorised bootstrap against a loop that draws documents one by one."""

import numpy as np
import pytest

from medtrain.errors import DataError
from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Bootstrap, by_document, differences, intervals, mean_of, resampled
from medtrain.evaluate.metrics import entity_f1

SETTINGS = Bootstrap(resamples=1000, seed=7)


def test_rows_of_a_document_are_drawn_together() -> None:
    counts = by_document(np.array([[1.0], [10.0], [100.0]]), ["a", "b", "a"])
    assert counts.tolist() == [[101.0], [10.0]]
    assert set(resampled(counts, SETTINGS)[:, 0]) == {20.0, 111.0, 202.0}


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(50, 10, size=(400, 1))
    found = intervals(mean_of(["score"], values), [str(i) for i in range(400)], SETTINGS)["score"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.25)
    assert found.high == pytest.approx(values.mean() + half, abs=0.25)


def test_resampled_f1_equals_f1_of_the_resampled_documents() -> None:
    """Weighting counts is the same as measuring the metric again on documents drawn with repeats."""
    chance = np.random.default_rng(1)

    def row(number: int) -> Case:
        gold = [{"type": "AB"[int(chance.integers(2))], "text": str(chance.integers(3))} for _ in range(2)]
        given = [{"type": "AB"[int(chance.integers(2))], "text": str(chance.integers(3))} for _ in range(2)]
        return Case(str(number), "", {"entities": gold}, {"entities": given}, True)

    cases = [row(i) for i in range(12)]
    statistics = entity_f1.measure(cases)
    draws = statistics.scores(resampled(statistics.counts, Bootstrap(5, 3)))
    generator = np.random.default_rng(3)
    for i, times in enumerate(generator.multinomial(12, np.full(12, 1 / 12), size=5)):
        again = entity_f1.measure([case for case, n in zip(cases, times, strict=True) for _ in range(n)])
        one = again.scores(again.counts.sum(axis=0))
        assert draws["ner_micro_f1_set"][i] == pytest.approx(one["ner_micro_f1_set"])
        assert draws["ner_macro_recall_set"][i] == pytest.approx(one["ner_macro_recall_set"])


def test_a_paired_difference_is_narrower_than_the_systems_own_intervals() -> None:
    base = np.random.default_rng(2).normal(50, 20, size=(200, 1))
    names = [str(i) for i in range(200)]
    first, second = mean_of(["score"], base), mean_of(["score"], base + 1.0)
    found = differences(first, second, names, SETTINGS)["score"]
    alone = intervals(first, names, SETTINGS)["score"]
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert alone.high - alone.low > 3


def test_systems_on_other_rows_are_not_compared() -> None:
    first, second = mean_of(["score"], np.ones((3, 1))), mean_of(["score"], np.ones((2, 1)))
    with pytest.raises(DataError, match="3 and 2 rows"):
        differences(first, second, ["a", "b", "c"], SETTINGS)
