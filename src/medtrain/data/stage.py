"""One unit of a source to one part: read, clean, hash, sample, write. Runs in a Ray task and needs no Ray.

A part is `parts/<name>.parquet`, `.jsonl` (its ledger) and `.json` (the marker, written last: the part is whole).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medtrain import ledger, plugins
from medtrain.config import parse
from medtrain.data import deduplicate, draw
from medtrain.data.cleaning import CleanerConfig, clean
from medtrain.data.source import Problem, SourceConfig, SourceModule, Unit
from medtrain.errors import DataError
from medtrain.ledger import Entry
from medtrain.records import SCHEMA, Record, to_arrow
from medtrain.storage import Store

BATCH_ROWS = 1024
PART_SCHEMA = pa.schema([*SCHEMA, *(pa.field(name, pa.uint64()) for name in deduplicate.HASH_COLUMNS)])


@dataclass(frozen=True, slots=True)
class Work:
    """One unit to stage, as plain JSON values so that it travels to any worker."""

    part: str
    unit: dict[str, Any]
    source: dict[str, Any]
    cleaners: list[dict[str, Any]]
    seed: int


def source_config(content: dict[str, Any]) -> SourceConfig:
    """A source's config, validated by the plug-in that it names.

    Raises:
        ConfigError: no such plug-in, or a wrong setting.
    """
    kind: type[SourceConfig] = plugins.load("data", "sources", str(content.get("source"))).Config
    return parse(kind, content)


def cleaner_config(content: dict[str, Any]) -> CleanerConfig:
    """A rule's config, validated by the plug-in that it names.

    Raises:
        ConfigError: no such plug-in, or a wrong setting.
    """
    kind: type[CleanerConfig] = plugins.load("data", "cleaners", str(content.get("cleaner"))).Config
    return parse(kind, content)


def stage(store: Store, work: Work) -> None:
    """Write the part of a unit.

    Raises:
        DataError: the source raised; the message says at which unit and with what kind of error.
    """
    config = source_config(work.source)
    unit = Unit(**{**work.unit, "also": tuple(work.unit["also"])})
    entries: list[Entry] = []
    try:
        table, clean_rows = _table(config, unit, [cleaner_config(c) for c in work.cleaners], work.seed, entries)
    except Exception as error:
        place = Path(unit.path).name
        raise DataError(
            f"source {config.label}: reading {place} [{unit.start}:{unit.stop}] raised {type(error).__name__} "
            f"at {_where(error)}; the plug-in must yield a Problem for a row that it cannot read"
        ) from None
    dropped = ledger.write(store, f"parts/{work.part}.jsonl", entries)
    write_parquet(store, f"parts/{work.part}.parquet", table)
    marker = {"rows": table.num_rows, "clean": clean_rows, "dropped": dict(sorted(dropped.items()))}
    store.write(f"parts/{work.part}.json", json.dumps(marker).encode())


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _table(
    config: SourceConfig, unit: Unit, rules: Sequence[CleanerConfig], seed: int, entries: list[Entry]
) -> tuple[pa.Table, int]:
    """The clean rows of a unit and how many there were before the draw; max_rows and a batch are held at a time."""
    kept = PART_SCHEMA.empty_table()
    clean_rows = 0
    for records in read_batches(config, unit, entries):
        batch, gone = clean(to_arrow(records), rules)
        entries += gone
        clean_rows += batch.num_rows
        kept = pa.concat_tables([kept, deduplicate.with_hashes(batch)])
        if config.max_rows is not None and kept.num_rows > config.max_rows:
            kept = kept.take(pa.array(draw.smallest(seed, kept["document_id"].to_pylist(), config.max_rows)))
    return kept.combine_chunks(), clean_rows


def read_batches(config: SourceConfig, unit: Unit, entries: list[Entry]) -> Iterator[list[Record]]:
    """The records of a unit in batches; its problems are added to `entries`."""
    module: SourceModule = plugins.load("data", "sources", config.source)
    items = module.read(unit, config)
    while batch := list(islice(items, BATCH_ROWS)):
        for item in batch:
            if isinstance(item, Problem):
                id = item.id or item.position
                entries.append(Entry("data", config.label, id, item.position, item.rule, item.detail, item.action))
        records = [item for item in batch if isinstance(item, Record)]
        cut = config.local_split
        yield [replace(r, split=cut.of(r.document_id)) for r in records] if cut is not None else records


def write_parquet(store: Store, path: str, table: pa.Table) -> None:
    """Write a table whole; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    store.write(path, sink.getvalue().to_pybytes())


def read_parquet(store: Store, path: str, columns: list[str] | None = None) -> pa.Table:
    """Read a table that `write_parquet` wrote."""
    return pq.read_table(pa.BufferReader(store.read(path)), columns=columns)


def is_whole(store: Store, part: str) -> bool:
    """Whether a part's marker is there: a part broken off has none."""
    return store.exists(f"parts/{part}.json")


def marker(store: Store, part: str) -> dict[str, Any]:
    """What a whole part holds: `rows`, the `clean` rows they were drawn from, and `dropped` by source/rule/action."""
    content: dict[str, Any] = json.loads(store.read(f"parts/{part}.json"))
    return content


def as_work(part: str, unit: Unit, config: SourceConfig, rules: Sequence[CleanerConfig], seed: int) -> Work:
    """What a worker needs for a unit."""
    return Work(part, asdict(unit), config.model_dump(mode="json"), [r.model_dump(mode="json") for r in rules], seed)
