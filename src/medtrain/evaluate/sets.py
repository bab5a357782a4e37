"""Counts of true and false positives between sets, row by row and type by type: what the exact-match metrics share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medtrain.evaluate.intervals import Array, Scores, Statistics, ratio

Item = tuple[str, ...]
"""What is compared, exactly; the first part is its type."""


@dataclass(frozen=True)
class Names:
    """How the scores of one metric are called, as `ner_macro_recall_set` and `ner_f1_set[Disease]`."""

    task: str
    protocol: str

    def average(self, average: str, measure: str) -> str:
        return f"{self.task}_{average}_{measure}_{self.protocol}"

    def of_type(self, kind: str) -> str:
        return f"{self.task}_f1_{self.protocol}[{kind}]"


def compare(gold: Sequence[set[Item]], predicted: Sequence[set[Item]], names: Names) -> Statistics:
    """Statistics of sets of items, one gold and one predicted set a row.

    Types are those of the gold sets; a predicted item of any other type is a false positive in the micro scores and has
    no score of its own. Macro scores are the plain mean over the types that occur (in a resample: that occur in it).
    """
    types = sorted({item[0] for row in gold for item in row})
    places = {kind: i for i, kind in enumerate(types)}
    counts = np.zeros((len(gold), len(types) + 1, 3))  # (rows, types and "any other", tp fp fn)
    for row, (wanted, given) in enumerate(zip(gold, predicted, strict=True)):
        for outcome, items in enumerate((wanted & given, given - wanted, wanted - given)):
            for item in items:
                counts[row, places.get(item[0], len(types)), outcome] += 1
    return Statistics(counts.reshape(len(gold), 3 * (len(types) + 1)), scorer(types, names))


def scorer(types: Sequence[str], names: Names) -> Callable[[Array], Scores]:
    """The function from summed counts (..., 3 * (types + 1)) to micro, macro and per-type scores."""

    def scores(totals: Array) -> Scores:
        cells = totals.reshape(*totals.shape[:-1], len(types) + 1, 3)
        tp, fp, fn = (cells[..., i] for i in range(3))  # each (..., types + 1)
        every_tp, every_fp, every_fn = tp.sum(-1), fp.sum(-1), fn.sum(-1)
        f1 = ratio(2 * tp, 2 * tp + fp + fn)[..., : len(types)]
        recall = ratio(tp, tp + fn)[..., : len(types)]
        found = {
            names.average("micro", "f1"): ratio(2 * every_tp, 2 * every_tp + every_fp + every_fn),
            names.average("macro", "f1"): plain_mean(f1),
            names.average("micro", "precision"): ratio(every_tp, every_tp + every_fp),
            names.average("micro", "recall"): ratio(every_tp, every_tp + every_fn),
            names.average("macro", "recall"): plain_mean(recall),
        }
        for i, kind in enumerate(types):
            found[names.of_type(kind)] = f1[..., i]
        return found

    return scores


def plain_mean(values: Array) -> Array:
    """The mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))


def items(rows: Iterable[dict[str, str]], keys: Sequence[str], ignored: Iterable[str] = ()) -> set[Item]:
    """The set of tuples of `keys` of each row, less those whose last part is in `ignored`."""
    drop = set(ignored)
    return {item for row in rows if (item := tuple(row[key] for key in keys))[-1] not in drop}
