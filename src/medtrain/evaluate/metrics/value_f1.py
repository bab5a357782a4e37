"""F1 over sets of an attribute's values, exact strings per row; macro is the plain mean over attributes."""

from collections.abc import Sequence

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.sets import Item, Names, compare

HEADLINES = ("attribute_micro_f1_set", "attribute_macro_f1_set")


def measure(cases: Sequence[Case]) -> Statistics:
    """Micro and macro F1, precision, recall, and the F1 of each attribute in the gold."""

    def values(case: Case, found: Sequence[str]) -> set[Item]:
        return {(str(case.reference["attribute"]), value) for value in found}

    return compare(
        [values(case, case.reference["values"]) for case in cases],
        [values(case, case.prediction["values"]) for case in cases],
        Names("attribute", "set"),
    )
