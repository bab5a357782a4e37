"""Accuracy of a choice: the share of rows whose one label, or whose set of keys, is the right one.

An answer that names no label of its set is wrong; so is one that gives some of several right options.
"""

from collections.abc import Sequence

import numpy as np

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("accuracy",)


def measure(cases: Sequence[Case]) -> Statistics:
    """`accuracy`: the mean over rows, 0 to 1."""
    hits = [[float(case.parsed and case.prediction["label"] == case.reference["label"])] for case in cases]
    return mean_of(HEADLINES, np.array(hits).reshape(-1, 1))
