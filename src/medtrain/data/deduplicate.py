"""Exact duplicates: rows whose turns and gold are the same, whatever their source, id and task are called.

One copy stays. A copy in test goes before one in validation, and that before one in train, so that what is held out is
never trained on; within a split the first in artifact order stays.
"""

import hashlib
import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

RANKS = {"test": 0, "validation": 1, "train": 2}
HASH_COLUMNS = ("hash_high", "hash_low")


def with_hashes(batch: pa.Table) -> pa.Table:
    """The batch with two uint64 columns, the 128-bit BLAKE2 hash of each row's turns and gold."""
    digests = b"".join(
        hashlib.blake2b(json.dumps([turns, gold], sort_keys=True).encode(), digest_size=16).digest()
        for turns, gold in zip(batch["turns"].to_pylist(), batch["gold"].to_pylist(), strict=True)
    )
    halves = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    for number, name in enumerate(HASH_COLUMNS):
        batch = batch.append_column(name, pa.array(halves[:, number]))
    return batch


def representatives(
    high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], ranks: npt.NDArray[np.int8]
) -> npt.NDArray[np.int64]:
    """For each row the number of the row that stands for it: its own number where it stays."""
    rows = len(high)
    order = np.lexsort((np.arange(rows), ranks, low, high))
    first = np.ones(rows, dtype=bool)
    first[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    leaders = order[np.maximum.accumulate(np.where(first, np.arange(rows), 0))]
    found = np.empty(rows, dtype=np.int64)
    found[order] = leaders
    return found
