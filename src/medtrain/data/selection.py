"""Which staged rows make the artifact, under which id and split; and the shards they are written to. No Ray here."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medtrain.data import deduplicate, draw, holdout, stage
from medtrain.ledger import Entry
from medtrain.records import SCHEMA
from medtrain.storage import Store

COLUMNS = ["id", "document_id", "source", "split", *deduplicate.HASH_COLUMNS]


@dataclass(frozen=True)
class Selection:
    """The chosen rows in artifact order: `part` and `row` number say where each lies, `id` and `split` what it gets."""

    part: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    id: list[str]
    split: list[str]
    source: list[str]
    entries: list[Entry] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    """Rows that max_rows let through, by source."""

    def by_source(self) -> dict[str, dict[str, int]]:
        """Rows by source and split."""
        counts = Counter(zip(self.source, self.split, strict=True))
        return {s: {t: n for (u, t), n in sorted(counts.items()) if u == s} for s in sorted(set(self.source))}


def select(
    tables: Sequence[pa.Table], limits: dict[str, int | None], seed: int, config: holdout.HoldoutConfig
) -> Selection:
    """Choose among the staged rows: max_rows of each source, one of each set of duplicates, the holdout.

    `tables` are the parts in artifact order with `COLUMNS`; `limits` has max_rows by source.

    Raises:
        DataError: the holdout would leave nothing to train on.
    """
    part = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    row = np.concatenate([np.arange(table.num_rows) for table in tables]) if tables else np.zeros(0, np.int64)
    rows = pa.concat_tables(tables).combine_chunks()
    drawn, taken = _limit(rows, limits, seed)
    part, row, rows = part[drawn], row[drawn], rows.take(pa.array(drawn))
    ids, splits, sources = (rows[name].to_pylist() for name in ("id", "split", "source"))
    ranks = np.array([deduplicate.RANKS[split] for split in splits], dtype=np.int8)
    high, low = (rows[name].to_numpy() for name in deduplicate.HASH_COLUMNS)
    standing = deduplicate.representatives(high, low, ranks)
    entries = [
        Entry("data", sources[n], ids[n], ids[n], "duplicate", f"same content as {ids[leader]} ({splits[leader]})")
        for n, leader in enumerate(standing)
        if n != leader
    ]
    kept = np.flatnonzero(standing == np.arange(len(standing)))
    chosen = [(ids[n], splits[n], sources[n]) for n in kept]
    documents = rows["document_id"].take(pa.array(kept)).to_pylist()
    held = holdout.held_out(documents, [split for _, split, _ in chosen], config)
    new_ids, renamed = unique([id for id, _, _ in chosen], [source for _, _, source in chosen])
    new_splits = [
        "validation" if split == "train" and document in held else split
        for (_, split, _), document in zip(chosen, documents, strict=True)
    ]
    return Selection(
        part[kept], row[kept], new_ids, new_splits, [source for _, _, source in chosen], [*entries, *renamed], taken
    )


def _limit(rows: pa.Table, limits: dict[str, int | None], seed: int) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    """The row numbers that max_rows leaves, in order, and how many of each source they are."""
    sources = np.array(rows["source"].to_pylist(), dtype=object)
    drawn: list[npt.NDArray[np.int64]] = []
    taken: dict[str, int] = {}
    for source, limit in limits.items():
        mine = np.flatnonzero(sources == source)
        if limit is not None and len(mine) > limit:
            mine = mine[draw.smallest(seed, rows["document_id"].take(pa.array(mine)).to_pylist(), limit)]
        drawn.append(mine)
        taken[source] = len(mine)
    return np.sort(np.concatenate(drawn)), taken


def unique(ids: Sequence[str], sources: Sequence[str]) -> tuple[list[str], list[Entry]]:
    """The ids with `~2`, `~3`, … behind those that a corpus uses again for other content, and an entry for each."""
    seen = set(ids)
    used: Counter[str] = Counter()
    found: list[str] = []
    entries: list[Entry] = []
    for id, source in zip(ids, sources, strict=True):
        used[id] += 1
        new = id
        while used[id] > 1 and (new := f"{id}~{used[id]}") in seen:
            used[id] += 1
        if new != id:
            entries.append(Entry("data", source, id, new, "repeated_id", "another row has this id: renamed", "changed"))
        found.append(new)
    return found, entries


def shard_plans(selection: Selection, parts: Sequence[str], shard_rows: int) -> list[dict[str, Any]]:
    """For each shard its number and its rows as runs of one part: plain JSON values."""
    plans: list[dict[str, Any]] = []
    for start in range(0, len(selection.id), shard_rows):
        stop = min(start + shard_rows, len(selection.id))
        borders = np.flatnonzero(np.diff(selection.part[start:stop])) + start + 1
        edges = [start, *borders.tolist(), stop]
        runs = [{"part": parts[selection.part[a]], "rows": selection.row[a:b].tolist()} for a, b in pairwise(edges)]
        new = {"ids": selection.id[start:stop], "splits": selection.split[start:stop]}
        plans.append({"shard": len(plans), "runs": runs, **new})
    return plans


def write_shard(store: Store, plan: dict[str, Any]) -> None:
    """Write one shard of `records.SCHEMA` from the parts that its plan names."""
    tables = [
        stage.read_parquet(store, f"parts/{run['part']}.parquet", SCHEMA.names).take(pa.array(run["rows"], pa.int64()))
        for run in plan["runs"]
    ]
    table = pa.concat_tables(tables)
    for name in ("id", "split"):
        table = table.set_column(SCHEMA.get_field_index(name), name, pa.array(plan[f"{name}s"], pa.string()))
    stage.write_parquet(store, f"shards/{plan['shard']:05d}.parquet", table.cast(SCHEMA).combine_chunks())
