"""Which rows make the artifact, and how shards are laid out."""

import pyarrow as pa

from medtrain.data import selection, stage
from medtrain.data.holdout import HoldoutConfig
from medtrain.storage import Store

NO_HOLDOUT = HoldoutConfig(rows=0)


def part(rows: list[tuple[str, str, str, int]], source: str = "s") -> pa.Table:
    """Rows of (id, document, split, content)."""
    columns = {
        "id": [row[0] for row in rows],
        "document_id": [row[1] for row in rows],
        "source": [source] * len(rows),
        "split": [row[2] for row in rows],
        "hash_high": pa.array([row[3] for row in rows], pa.uint64()),
        "hash_low": pa.array([0] * len(rows), pa.uint64()),
    }
    schema = pa.schema([stage.PART_SCHEMA.field(name) for name in selection.COLUMNS])
    return pa.table(columns).select(schema.names).cast(schema)


def test_duplicates_over_parts_and_splits() -> None:
    tables = [
        part([("a", "a", "train", 1), ("b", "b", "train", 2)]),
        part([]),
        part([("c", "c", "test", 2), ("d", "d", "train", 1), ("e", "e", "train", 3)], "t"),
    ]
    chosen = selection.select(tables, {"s": None, "t": None}, 1, NO_HOLDOUT)
    assert chosen.id == ["a", "c", "e"]
    assert (chosen.part.tolist(), chosen.row.tolist()) == ([0, 2, 2], [0, 0, 2])
    assert [(e.source, e.id, e.rule, e.detail) for e in chosen.entries] == [
        ("s", "b", "duplicate", "same content as c (test)"),
        ("t", "d", "duplicate", "same content as a (train)"),
    ]
    assert chosen.by_source() == {"s": {"train": 1}, "t": {"test": 1, "train": 1}}


def test_ids_used_again_for_other_content_are_renamed() -> None:
    names = ["a", "a", "a~2", "a", "b"]
    tables = [part([(name, name, "train", n) for n, name in enumerate(names)])]
    chosen = selection.select(tables, {"s": None}, 1, NO_HOLDOUT)
    assert chosen.id == ["a", "a~3", "a~2", "a~4", "b"]
    assert [(e.id, e.position, e.action) for e in chosen.entries] == [("a", "a~3", "changed"), ("a", "a~4", "changed")]


def test_max_rows_and_holdout() -> None:
    tables = [
        part([(f"{p}-{n}", f"{p}-{n // 2}", "train", p * 100 + n) for n in range(100)], source)
        for p, source in enumerate("ssu", 1)
    ]
    chosen = selection.select(tables, {"s": 30, "u": None}, 1, HoldoutConfig(rows=20))
    assert chosen.taken == {"s": 30, "u": 100}
    assert chosen.split.count("validation") == 20
    assert len(chosen.id) == 130
    assert sorted(chosen.part.tolist()) == chosen.part.tolist()


def test_shards_are_written_from_runs_of_parts(store: Store) -> None:
    for number in range(3):
        names = [name for name in stage.SCHEMA.names if name != "turns"]
        rows = [{name: f"{name} {number} {row}" for name in names} | {"turns": []} for row in range(4)]
        table = pa.Table.from_pylist([row | {"hash_high": 0, "hash_low": 0} for row in rows], schema=stage.PART_SCHEMA)
        stage.write_parquet(store, f"parts/p{number}.parquet", table)
    tables = [part([(f"{p}{r}", f"{p}{r}", "train", p * 10 + r) for r in range(4) if r != p]) for p in range(3)]
    chosen = selection.select(tables, {"s": None}, 1, NO_HOLDOUT)
    plans = selection.shard_plans(chosen, ["p0", "p1", "p2"], shard_rows=4)
    assert [[run["part"] for run in plan["runs"]] for plan in plans] == [["p0", "p1"], ["p1", "p2"], ["p2"]]
    for plan in plans:
        selection.write_shard(store, plan)
    assert store.files("shards") == [f"shards/0000{n}.parquet" for n in range(3)]
    ids = [id for path in store.files("shards") for id in stage.read_parquet(store, path)["id"].to_pylist()]
    assert ids == chosen.id
