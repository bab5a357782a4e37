"""Held-out losses per source, the same at any number of workers."""

from collections.abc import Sequence

import numpy as np

from medtrain.tokens.shards import Samples
from medtrain.train.order import BatchConfig, Ints, MicroBatch, layout


def choose_rows(samples: Samples, rows: Ints, max_rows: int) -> Ints:
    """At most `max_rows` rows, taken from the sources in turn, so that small sources are not crowded out."""
    by_source: dict[str, list[int]] = {}
    for row in rows:
        by_source.setdefault(samples.sources[row], []).append(int(row))
    turns = [(place, row) for group in by_source.values() for place, row in enumerate(group)]
    return np.array(sorted(row for _, row in sorted(turns)[:max_rows]), dtype=np.int64)


def micro_batches(samples: Samples, rows: Ints, batch: BatchConfig) -> list[tuple[str, MicroBatch]]:
    """Each source's rows in micro-batches of their own, in a fixed order."""
    found = []
    for source in sorted({samples.sources[row] for row in rows}):
        mine = np.array([row for row in rows if samples.sources[row] == source], dtype=np.int64)
        for group in layout(samples.lengths[mine], batch):
            found.append((source, MicroBatch(tuple(int(mine[item]) for item in group), seed=0)))
    return found


def per_source(sources: Sequence[str], losses: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Mean loss per trained token of each source and of all (`""`), from (summed loss, tokens) of micro-batches."""
    sums: dict[str, list[float]] = {}
    for source, (loss, tokens) in zip(sources, losses, strict=True):
        for key in (source, ""):
            total = sums.setdefault(key, [0.0, 0.0])
            total[0] += loss
            total[1] += tokens
    return {source: loss / tokens for source, (loss, tokens) in sums.items() if tokens}
