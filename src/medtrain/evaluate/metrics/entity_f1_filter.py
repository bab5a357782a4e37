"""Entity F1 as in `entity_f1`, after predictions that do not stand in the given text have been dropped.

A looping model invents strings; this protocol ("B", filtered) says how good it is once a program checks them.
"""

from collections.abc import Sequence

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.metrics.entity_f1 import NOTHING
from medtrain.evaluate.sets import Names, compare, items

HEADLINES = ("ner_micro_f1_set_filter",)


def measure(cases: Sequence[Case]) -> Statistics:
    """The scores of `entity_f1` under their own names."""
    predicted = [items(case.prediction["entities"], ("type", "text"), NOTHING) for case in cases]
    return compare(
        [items(case.reference["entities"], ("type", "text")) for case in cases],
        [{item for item in found if item[1] in case.context} for found, case in zip(predicted, cases, strict=True)],
        Names("ner", "set_filter"),
    )
