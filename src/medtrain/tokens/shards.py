"""Token shards: Arrow IPC files of samples, read in place from a local disk.

Shards hold samples (ids, trained spans, length) and never packed rows; packing is a layout that training computes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medtrain.artifacts import Artifact
from medtrain.errors import CorruptArtifact
from medtrain.storage import Store

FOLDER = "shards"
TEXT_COLUMNS = ("id", "source", "task", "category", "language", "split")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXT_COLUMNS),
        ("length", pa.int32()),
        ("trained_tokens", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("trained", pa.list_(pa.list_(pa.int32(), 2))),
    ]
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenised record: `input_ids` (T,) int32 and the half-open token spans on which the loss is taken."""

    id: str
    source: str
    task: str
    category: str
    language: str
    split: str
    input_ids: NDArray[np.int32]
    trained: tuple[tuple[int, int], ...]

    @property
    def trained_tokens(self) -> int:
        """How many tokens carry loss."""
        return sum(stop - start for start, stop in self.trained)


def shard_path(index: int) -> str:
    """The file of shard number `index` within its artifact."""
    return f"{FOLDER}/{index:05d}.arrow"


def write_shard(store: Store, path: str, samples: Iterable[Sample]) -> int:
    """Write one uncompressed Arrow IPC file and return its size; the same samples give the same bytes."""
    kept = list(samples)
    columns: dict[str, Any] = {name: [getattr(sample, name) for sample in kept] for name in TEXT_COLUMNS}
    columns["length"] = [len(sample.input_ids) for sample in kept]
    columns["trained_tokens"] = [sample.trained_tokens for sample in kept]
    columns["input_ids"] = [sample.input_ids for sample in kept]
    columns["trained"] = [[list(span) for span in sample.trained] for sample in kept]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=SCHEMA))
    content = sink.getvalue().to_pybytes()
    store.write(path, content)
    return len(content)


def read_shard(store: Store, path: str) -> pa.Table:
    """One shard as a table of `SCHEMA`: mapped into memory on a local disk, read whole elsewhere.

    Raises:
        CorruptArtifact: the file is absent, cut short, or no shard.
    """
    try:
        source = pa.memory_map(str(store.local(path))) if store.is_local else pa.BufferReader(store.read(path))
        table = pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtifact(
            f"token shard {path} under {store.root}: cannot be read ({error}); delete that folder and run "
            "jobs/build_tokens.py again"
        ) from None
    if table.schema != SCHEMA:
        raise CorruptArtifact(
            f"token shard {path} under {store.root}: has the columns {table.column_names}, not those of a token shard; "
            "delete that folder and run jobs/build_tokens.py again"
        )
    return table


class Samples:
    """The samples of a token artifact by row number, in artifact order: shard by shard, row by row."""

    def __init__(self, table: pa.Table):
        self._table = table
        self.ids: list[str] = table["id"].to_pylist()
        self.sources: list[str] = table["source"].to_pylist()
        self.splits: list[str] = table["split"].to_pylist()
        self.categories: list[str] = table["category"].to_pylist()
        self.lengths: NDArray[np.int64] = table["length"].to_numpy().astype(np.int64)  # (N,)
        self.trained_tokens: NDArray[np.int64] = table["trained_tokens"].to_numpy().astype(np.int64)  # (N,)
        # Where each Arrow chunk begins, so that a row is found without walking through the chunks.
        self._chunks = [batch for batch in table.to_batches() if batch.num_rows]
        self._firsts = np.cumsum([0, *(batch.num_rows for batch in self._chunks)])

    @classmethod
    def open(cls, artifact: Artifact) -> "Samples":
        """Open every shard of a whole artifact.

        Raises:
            CorruptArtifact: a shard cannot be read.
        """
        paths = [path for path in artifact.store.files(FOLDER) if path.endswith(".arrow")]
        if not paths:
            raise CorruptArtifact(
                f"artifact {artifact.kind}/{artifact.name}: has no file in {FOLDER}/; delete {artifact.store.root} "
                "and run jobs/build_tokens.py again"
            )
        return cls(pa.concat_tables([read_shard(artifact.store, path) for path in paths]))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Sample:
        """The sample at a row number; its ids are a read-only view of the shard."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        chunk = int(np.searchsorted(self._firsts, row, side="right")) - 1
        batch, offset = self._chunks[chunk], row - int(self._firsts[chunk])
        text = {name: batch.column(name)[offset].as_py() for name in TEXT_COLUMNS}
        ids: NDArray[np.int32] = batch.column("input_ids")[offset].values.to_numpy(zero_copy_only=True)
        spans = tuple((int(start), int(stop)) for start, stop in batch.column("trained")[offset].as_py())
        return Sample(**text, input_ids=ids, trained=spans)

    def select(self, split: str, categories: Sequence[str] | None = None) -> NDArray[np.int64]:
        """The row numbers of a split, of some categories only if given, in artifact order."""
        chosen = np.array([s == split for s in self.splits], dtype=bool)
        if categories is not None:
            wanted = set(categories)
            chosen &= np.array([c in wanted for c in self.categories], dtype=bool)
        return np.flatnonzero(chosen).astype(np.int64)
