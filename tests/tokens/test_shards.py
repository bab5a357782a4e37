"""Shards keep samples exactly, are read in place, and say so when they are damaged."""

from pathlib import Path

import numpy as np
import pytest

from medtrain.artifacts import Artifact
from medtrain.errors import CorruptArtifact
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples, read_shard, shard_path, write_shard


def sample(number: int, split: str = "train", category: str = "NER") -> Sample:
    ids = np.arange(number, number + 5 + number, dtype=np.int32)
    return Sample(f"s:{number}", "s", "ner", category, "zh", split, ids, ((2, 4), (4, 5)))


def artifact(root: Path, shards: list[list[Sample]]) -> Artifact:
    store = Store(str(root))
    for index, samples in enumerate(shards):
        write_shard(store, shard_path(index), samples)
    return Artifact("tokens", "t", store, {})


def test_samples_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [sample(0), sample(1, "validation"), sample(2, category="QA"), sample(3)]
    samples = Samples.open(artifact(tmp_path, [rows[:2], [], rows[2:]]))
    assert len(samples) == 4
    for number, row in enumerate(rows):
        back = samples[number]
        assert np.array_equal(back.input_ids, row.input_ids) and back.input_ids.dtype == np.int32
        assert (back.id, back.split, back.category, back.trained) == (row.id, row.split, row.category, row.trained)
    assert samples.lengths.tolist() == [5, 6, 7, 8]
    assert samples.trained_tokens.tolist() == [3, 3, 3, 3]


def test_select_gives_row_numbers_in_artifact_order(tmp_path: Path) -> None:
    samples = Samples.open(artifact(tmp_path, [[sample(0), sample(1, "test")], [sample(2, category="QA"), sample(3)]]))
    assert samples.select(split="train").tolist() == [0, 2, 3]
    assert samples.select(split="train", categories=["NER"]).tolist() == [0, 3]
    assert samples.select(split="validation").tolist() == []


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_shard(store, "a.arrow", [sample(1), sample(2)])
    write_shard(store, "b.arrow", [sample(1), sample(2)])
    assert store.read("a.arrow") == store.read("b.arrow")


def test_a_sample_is_a_view_of_the_mapped_file(tmp_path: Path) -> None:
    samples = Samples.open(artifact(tmp_path, [[sample(1)]]))
    with pytest.raises(ValueError, match="read-only"):
        samples[0].input_ids[0] = 7


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_truncated_shard_is_refused(tmp_path: Path, kept: int) -> None:
    whole = artifact(tmp_path, [[sample(n) for n in range(20)]])
    path = whole.store.local(shard_path(0))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptArtifact, match="build_tokens.py"):
        Samples.open(whole)


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"a": [1]})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CorruptArtifact, match="columns"):
        read_shard(Store(str(tmp_path)), "x.arrow")
