"""Exact match and token F1 as SQuAD 1.1 counts them (Rajpurkar et al. 2016), against the best of several answers.

Texts are lower-cased, lose ASCII punctuation and the words a, an, the, and come apart at blanks. A Chinese character
is a token by itself; English texts have none, so their scores are the published script's.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics, mean_of

HEADLINES = ("squad_exact_match", "squad_f1")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_TOKEN = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")


def measure(cases: Sequence[Case]) -> Statistics:
    """`squad_exact_match` and `squad_f1`: 100 × the mean over rows."""
    values = [_row(case.reference["answers"], case.prediction["answers"]) for case in cases]
    return mean_of(HEADLINES, np.array(values, dtype=np.float64).reshape(-1, len(HEADLINES)))


def tokens(text: str) -> list[str]:
    """The tokens that are compared."""
    return _TOKEN.findall(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)))


def _row(answers: Sequence[str], predictions: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with the answer that fits best; an answer without a token matches nothing."""
    given = tokens(" ".join(predictions))
    if not given:
        return 0.0, 0.0
    wanted = [tokens(answer) for answer in answers]
    shared = [(Counter(given) & Counter(want)).total() for want in wanted]
    f1 = max((2 * same / (len(given) + len(want)) for same, want in zip(shared, wanted, strict=True)), default=0.0)
    return 100.0 * (given in wanted), 100.0 * f1
