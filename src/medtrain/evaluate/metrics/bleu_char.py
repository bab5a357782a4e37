"""BLEU-1 to BLEU-4 on characters, as BioQwen's released scores have them: nltk sentence BLEU, smoothing method 1.

Tokens are all characters, blanks and newlines included; the weights of BLEU-3 are the literal .33, not 1/3. Both decide
the printed value (BLEU-3 of the released 1.8B outputs is 5.084 with .33, 4.962 with 1/3).
"""

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("bleu1_char_nltk_m1", "bleu4_char_nltk_m1")
WEIGHTS = ((1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.33, 0.33, 0.33, 0), (0.25, 0.25, 0.25, 0.25))


def measure(cases: Sequence[Case]) -> Statistics:
    """`bleu<n>_char_nltk_m1`: 100 × the mean over rows."""
    values = np.array([_row(case.reference, case.prediction) for case in cases]).reshape(-1, len(WEIGHTS))
    return mean_of([f"bleu{n + 1}_char_nltk_m1" for n in range(len(WEIGHTS))], values)


def _row(reference: str, prediction: str) -> list[float]:
    if not reference or not prediction:
        return [0.0] * len(WEIGHTS)
    smoothing = SmoothingFunction().method1
    found = sentence_bleu([list(reference)], list(prediction), weights=list(WEIGHTS), smoothing_function=smoothing)
    return [100.0 * float(value) for value in found]
