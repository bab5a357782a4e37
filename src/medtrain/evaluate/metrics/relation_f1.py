"""Relation F1 over sets of exact (type, head, tail) strings per row; strings only, no identifiers are normalised."""

from collections.abc import Sequence

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.sets import Names, compare, items

HEADLINES = ("re_micro_f1_set", "re_macro_f1_set")


def measure(cases: Sequence[Case]) -> Statistics:
    """Micro and macro F1, precision, recall, and the F1 of each relation type in the gold."""
    keys = ("type", "head", "tail")
    return compare(
        [items(case.reference["relations"], keys) for case in cases],
        [items(case.prediction["relations"], keys, ("None", "")) for case in cases],
        Names("re", "set"),
    )
