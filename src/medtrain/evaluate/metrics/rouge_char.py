"""ROUGE-1, ROUGE-2 and ROUGE-L (F) on characters by the package `rouge` 1.0.1, with blanks put between characters.

The package splits sentences at ASCII dots, which changes ROUGE-L, and recurses as deep as the two texts are long. On
English text character ROUGE is inflated: compare systems by it, never corpora.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from rouge import Rouge

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("rougeL_char_rougepkg",)
KEYS = ("rouge-1", "rouge-2", "rouge-l")
NAMES = ("rouge1_char_rougepkg", "rouge2_char_rougepkg", "rougeL_char_rougepkg")


def measure(cases: Sequence[Case]) -> Statistics:
    """`rouge1|2|L_char_rougepkg`: 100 × the mean F over rows."""
    scorer = Rouge()
    values = np.array([_row(scorer, case.reference, case.prediction) for case in cases]).reshape(-1, len(KEYS))
    return mean_of(NAMES, values)


def _row(scorer: Rouge, reference: str, prediction: str) -> list[float]:
    # The package refuses texts without a word in them; such an answer shares nothing with its reference.
    if not reference.strip(". \n\t\r") or not prediction.strip(". \n\t\r"):
        return [0.0] * len(KEYS)
    with recursion(len(reference) + len(prediction)):
        found = scorer.get_scores([" ".join(prediction)], [" ".join(reference)])[0]
    return [100.0 * float(found[key]["f"]) for key in KEYS]


@contextmanager
def recursion(depth: int) -> Iterator[None]:
    """Let Python recurse `depth` frames deeper than it may now."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 2 * depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
