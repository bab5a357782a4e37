"""Which rows are evaluated: the same for every system, drawn by seed from the held-out splits."""

import hashlib
from collections import defaultdict
from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

from medtrain.artifacts import Artifact
from medtrain.records import Record, from_arrow

Place = tuple[str, int]
"""A shard's path and the number of a row in it."""


def held_out(
    data: Artifact, tasks: Collection[str], splits: Collection[str], max_rows: int | None, seed: int
) -> list[Record]:
    """At most `max_rows` records of each task and split, of smallest hash of (seed, id), in artifact order."""
    drawn: dict[tuple[str, str], list[tuple[bytes, Place]]] = defaultdict(list)
    for path in data.store.files("shards"):
        table = _read(data, path, ["id", "task", "split"])
        for number, row in enumerate(table.to_pylist()):
            if row["task"] in tasks and row["split"] in splits:
                digest = hashlib.blake2b(f"{seed}/{row['id']}".encode(), digest_size=16).digest()
                drawn[row["task"], row["split"]].append((digest, (path, number)))
    chosen: dict[str, list[int]] = defaultdict(list)
    for group in drawn.values():
        for _, (path, number) in sorted(group)[:max_rows]:
            chosen[path].append(number)
    records: list[Record] = []
    for path in sorted(chosen):
        records += from_arrow(_read(data, path).take(pa.array(sorted(chosen[path]))))
    return records


def _read(data: Artifact, path: str, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(pa.BufferReader(data.store.read(path)), columns=columns)
