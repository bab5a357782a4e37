"""One data shard becomes one token shard: a plain function, with a file of counts written last to say it is whole."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.parquet as pq

from medtrain import ledger, records
from medtrain.errors import DataError
from medtrain.storage import Store
from medtrain.tokens.render import Renderer
from medtrain.tokens.shards import Sample, shard_path, write_shard

DATA_FOLDER, LEDGER_FOLDER, COUNTS_FOLDER = "shards", "ledger", "counts"


@dataclass
class Counts:
    """What a shard holds; `by_source` is source -> split -> [rows, tokens, trained tokens]; `ledger` counts lines."""

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    by_source: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    """The size of the shard's file."""

    def add(self, other: "Counts") -> None:
        """Add another shard's counts to these."""
        self.rows += other.rows
        self.tokens += other.tokens
        self.trained_tokens += other.trained_tokens
        self.bytes += other.bytes
        self.ledger = dict(Counter(self.ledger) + Counter(other.ledger))
        for source, splits in other.by_source.items():
            mine = self.by_source.setdefault(source, {})
            for split, numbers in splits.items():
                mine[split] = [a + b for a, b in zip(mine.get(split, [0, 0, 0]), numbers, strict=True)]


def data_shards(data: Store) -> list[str]:
    """The shards of a data artifact, in order; token shard number i is made from the i-th."""
    return [path for path in data.files(DATA_FOLDER) if path.endswith(".parquet")]


def convert(data: Store, path: str, out: Store, index: int, renderer: Renderer) -> Counts:
    """Make token shard `index` and its ledger from the data shard at `path`; the file of counts goes last.

    Raises:
        DataError: the data shard cannot be read.
    """
    try:
        table = pq.read_table(io.BytesIO(data.read(path)))
        found = list(records.from_arrow(table))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"data shard {path} under {data.root}: cannot be read ({error}); make the data again") from None
    wanted = renderer.config.categories
    samples: list[Sample] = []
    entries: list[ledger.Entry] = []
    for record in found:
        if wanted is None or record.category in wanted:
            sample, lines = renderer.sample(record)
            samples += [] if sample is None else [sample]
            entries += lines
    counts = count(samples)
    counts.bytes = write_shard(out, shard_path(index), samples)
    counts.ledger = dict(ledger.write(out, f"{LEDGER_FOLDER}/{index:05d}.jsonl", entries))
    out.write(f"{COUNTS_FOLDER}/{index:05d}.json", json.dumps(asdict(counts), sort_keys=True).encode())
    return counts


def count(samples: Sequence[Sample]) -> Counts:
    """Rows and tokens of some samples, by source and split too."""
    counts = Counts()
    for sample in samples:
        rows, tokens, trained = numbers = [1, len(sample.input_ids), sample.trained_tokens]
        counts.add(Counts(rows, tokens, trained, by_source={sample.source: {sample.split: numbers}}))
    return counts


def whole(out: Store, index: int) -> Counts | None:
    """The counts of a shard that an earlier run finished, or None where it is absent or was cut short."""
    path = f"{COUNTS_FOLDER}/{index:05d}.json"
    if not out.exists(path):
        return None
    try:
        content: dict[str, Any] = json.loads(out.read(path))
        counts = Counts(**content)
    except (ValueError, TypeError):
        return None
    return counts if out.size_bytes(shard_path(index)) == counts.bytes else None
