"""Exact match counts an answer only when it is the reference to the letter."""

from medtrain.evaluate.cases import Case
from medtrain.evaluate.metrics import exact_match


def test_the_share_of_answers_that_are_the_reference_to_the_letter():
    pairs = [("fern", "fern"), ("fern", "Fern"), ("fern", "a fern"), ("蕨草", "蕨草")]
    statistics = exact_match.measure([Case(str(i), "", r, p, True) for i, (r, p) in enumerate(pairs)])
    assert float(statistics.scores(statistics.counts.sum(axis=0))["exact_match"]) == 50.0
