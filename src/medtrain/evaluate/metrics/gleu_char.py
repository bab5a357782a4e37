"""GLEU on characters: nltk's `sentence_gleu`, blanks and newlines included."""

from collections.abc import Sequence

import numpy as np
from nltk.translate.gleu_score import sentence_gleu

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("gleu_char_nltk",)


def measure(cases: Sequence[Case]) -> Statistics:
    """`gleu_char_nltk`: 100 × the mean over rows."""
    values = [
        100.0 * float(sentence_gleu([list(case.reference)], list(case.prediction))) if case.prediction else 0.0
        for case in cases
    ]
    return mean_of(["gleu_char_nltk"], np.array(values).reshape(-1, 1))
