"""Multi-label classification: micro and macro F1 over labels, F1 per example, exact match.

A label that is not in the gold of any row is a false positive in the micro scores and never has an F1 of its own.
"""

from collections.abc import Sequence

import numpy as np

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Array, Scores, Statistics, mean_of
from medtrain.evaluate.sets import Item, Names, compare

HEADLINES = ("tc_micro_f1_set", "tc_exact_match")


def measure(cases: Sequence[Case]) -> Statistics:
    """The set scores of every label, `tc_example_f1` and `tc_exact_match` (both means over rows, 0 to 1)."""
    gold: list[set[Item]] = [{(str(label),) for label in case.reference["labels"]} for case in cases]
    predicted: list[set[Item]] = [{(str(label),) for label in case.prediction["labels"]} for case in cases]
    pooled = compare(gold, predicted, Names("tc", "set"))
    each = np.array(
        [
            [2 * len(g & p) / (len(g) + len(p)) if g or p else 1.0, float(g == p)]
            for g, p in zip(gold, predicted, strict=True)
        ]
    ).reshape(-1, 2)
    means = mean_of(("tc_example_f1", "tc_exact_match"), each)
    width = pooled.counts.shape[1]

    def scores(totals: Array) -> Scores:
        return pooled.scores(totals[..., :width]) | means.scores(totals[..., width:])

    return Statistics(np.concatenate([pooled.counts, means.counts], axis=1), scores)
