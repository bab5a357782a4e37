"""Bootstrap intervals over documents, from counts per row: no text is read again for any resample.

A metric is measured once as `Statistics`: additive counts per row and a function from summed counts to scores. A
resample of documents is then a weighted sum of counts, so that a thousand of them are one matrix product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtrain.errors import DataError

Array = NDArray[np.float64]
Scores = dict[str, Array]

BLOCK = 100
"""Resamples whose weights are in memory at once: 100 × 100,000 documents of float64 are 80 MB."""


@dataclass(frozen=True)
class Statistics:
    """What a metric found in each row: `counts` (rows, K), additive over rows.

    `scores` turns summed counts (..., K) into named scores (...), 0 to 1 or 0 to 100 as the name's protocol has it; NaN
    where a score is undefined (a type that does not occur).
    """

    counts: Array
    scores: Callable[[Array], Scores]


@dataclass(frozen=True)
class Interval:
    """A score on all documents and the ends of its 95 % percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """How often and from which seed documents are drawn again."""

    resamples: int = 1000
    seed: int = 42


def mean_of(names: Sequence[str], values: Array) -> Statistics:
    """Scores that are plain means over rows: `values` (rows, names)."""
    counts = np.concatenate([values, np.ones((len(values), 1))], axis=1)

    def scores(totals: Array) -> Scores:
        return {name: ratio(totals[..., i], totals[..., -1]) for i, name in enumerate(names)}

    return Statistics(counts, scores)


def ratio(part: Array, whole: Array) -> Array:
    """`part / whole`, NaN where `whole` is 0."""
    quotient: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) != 0)
    return quotient


def by_document(counts: Array, documents: Sequence[str]) -> Array:
    """Counts (rows, K) summed over the rows of each document: (documents, K), documents by first appearance."""
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(name, len(numbers)) for name in documents], dtype=np.int64)
    summed = np.zeros((len(numbers), counts.shape[1]))
    np.add.at(summed, places, counts)
    return summed


def resampled(counts: Array, bootstrap: Bootstrap) -> Array:
    """Summed counts (resamples, K) of documents drawn with replacement from counts (documents, K).

    The draw depends on the seed and the number of documents only, so two systems on the same documents are paired.
    """
    generator = np.random.default_rng(bootstrap.seed)
    documents = len(counts)
    blocks = []
    for start in range(0, bootstrap.resamples, BLOCK):
        size = min(BLOCK, bootstrap.resamples - start)
        drawn = generator.multinomial(documents, np.full(documents, 1 / documents), size=size)
        blocks.append(drawn.astype(np.float64) @ counts)
    return np.concatenate(blocks)


def intervals(statistics: Statistics, documents: Sequence[str], bootstrap: Bootstrap) -> dict[str, Interval]:
    """Every score of a metric with its interval; `documents` names the document of each row."""
    counts = by_document(statistics.counts, documents)
    values = statistics.scores(counts.sum(axis=0))
    draws = statistics.scores(resampled(counts, bootstrap))
    return {name: _interval(values[name], draws[name]) for name in values}


def differences(
    first: Statistics, second: Statistics, documents: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Interval]:
    """`second - first` for every score of two systems on the same rows, by the paired bootstrap.

    Raises:
        DataError: the two were not measured on the same rows.
    """
    if len(first.counts) != len(second.counts):
        raise DataError(
            f"paired difference: the systems have {len(first.counts)} and {len(second.counts)} rows; "
            "they must answer the same rows: generate the missing answers first"
        )
    one, two = by_document(first.counts, documents), by_document(second.counts, documents)
    at_one, at_two = first.scores(one.sum(axis=0)), second.scores(two.sum(axis=0))
    drawn_one, drawn_two = first.scores(resampled(one, bootstrap)), second.scores(resampled(two, bootstrap))
    return {
        name: _interval(at_two[name] - at_one[name], drawn_two[name] - drawn_one[name])
        for name in at_one
        if name in at_two
    }


def _interval(value: Array, draws: Array) -> Interval:
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
