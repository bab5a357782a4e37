"""F1 of each label of a choice and their plain mean.

The mean is over the labels that occur in the gold. An answer that names none of them costs recall and no precision.
"""

from collections.abc import Sequence

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.sets import Names, compare

HEADLINES = ("choice_macro_f1_set",)


def measure(cases: Sequence[Case]) -> Statistics:
    """Macro and micro scores, and the F1 of each label in the gold."""
    return compare(
        [{(str(case.reference["label"]),)} for case in cases],
        [{(str(case.prediction["label"]),)} if case.prediction["label"] else set() for case in cases],
        Names("choice", "set"),
    )
