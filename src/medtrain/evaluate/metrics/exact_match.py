"""Exact match: the share of answers that are the reference to the letter.

For answers that are names and nothing else. Character overlap gives an English answer half its points for looking like
English; this gives a point for knowing.
"""

from collections.abc import Sequence

import numpy as np

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("exact_match",)


def measure(cases: Sequence[Case]) -> Statistics:
    """`exact_match`: 100 × the share of rows whose texts, without outer blanks, are the same."""
    hits = [[100.0 * (case.prediction == case.reference)] for case in cases]
    return mean_of(HEADLINES, np.array(hits, dtype=np.float64).reshape(-1, 1))
