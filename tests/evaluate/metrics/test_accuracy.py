"""Accuracy and macro F1 of a choice against counting by hand."""

import random

import pytest

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.metrics import accuracy, macro_f1

Pairs = list[tuple[str, str]]


def cases(pairs: Pairs) -> list[Case]:
    return [Case("d", "", {"label": gold}, {"label": given}, bool(given)) for gold, given in pairs]


def scores(statistics: Statistics) -> dict[str, float]:
    return {name: float(value) for name, value in statistics.scores(statistics.counts.sum(axis=0)).items()}


def naive_f1(pairs: Pairs, label: str) -> float:
    """The harmonic mean of precision and recall, by loops."""
    right = sum(gold == given == label for gold, given in pairs)
    precision = right / max(1, sum(given == label for _, given in pairs))
    recall = right / max(1, sum(gold == label for gold, _ in pairs))
    return 2 * precision * recall / (precision + recall) if right else 0.0


def test_what_does_not_parse_is_wrong() -> None:
    assert scores(accuracy.measure(cases([("a", "a"), ("a", "b"), ("b", ""), ("AC", "A")])))["accuracy"] == 0.25
    unparsed = Case("d", "", {"label": ""}, {"label": ""}, False)
    assert scores(accuracy.measure([unparsed]))["accuracy"] == 0.0


def test_they_equal_a_naive_count() -> None:
    chance = random.Random(5)
    pairs = [(chance.choice("abc"), chance.choice(["a", "b", "c", "invented", ""])) for _ in range(200)]
    found = scores(macro_f1.measure(cases(pairs)))
    each = [naive_f1(pairs, label) for label in "abc"]
    assert found["choice_macro_f1_set"] == pytest.approx(sum(each) / 3)
    assert [found[f"choice_f1_set[{label}]"] for label in "abc"] == pytest.approx(each)
    assert scores(accuracy.measure(cases(pairs)))["accuracy"] == sum(g == p for g, p in pairs) / 200
