"""Entity F1 over sets of exact strings per row and type: the "BioQwen" protocol's counting.

Case-sensitive, no offsets, repeats count once; tp, fp and fn are pooled over all rows, macro is the plain mean of the
type F1s (reference values: the outputs that BioQwen released). The literals "None" and "" are no predictions.
"""

from collections.abc import Sequence

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.sets import Names, compare, items

HEADLINES = ("ner_micro_f1_set", "ner_macro_f1_set")
NOTHING = ("None", "")


def measure(cases: Sequence[Case]) -> Statistics:
    """Micro and macro F1, micro precision and recall, macro recall, and the F1 of each type in the gold."""
    return compare(
        [items(case.reference["entities"], ("type", "text")) for case in cases],
        [items(case.prediction["entities"], ("type", "text"), NOTHING) for case in cases],
        Names("ner", "set"),
    )
