"""Token artifacts on a real Ray: the same bytes every time and after a kill, refused where they do not match."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medtrain import artifacts, ledger, records
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.errors import ConfigError, CorruptArtifact, DataError, IdentityMismatch, MissingArtifact
from medtrain.storage import Store
from medtrain.tokens import pipeline
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.render import Renderer
from medtrain.tokens.shards import Samples

pytestmark = pytest.mark.usefixtures("ray_cluster")
SHARDS, ROWS = 3, 8


@pytest.fixture
def make_data(kit: Any) -> Any:
    def make(root: Store) -> None:
        build = artifacts.begin(root, "data", "d", Identity({}, {}, ""), Policy())
        assert isinstance(build, Build)
        for shard in range(SHARDS):
            rows = []
            for number in range(shard * ROWS, (shard + 1) * ROWS):
                row = kit.ner_record(number, f"take aspirin with drug{number}.", ["aspirin", f"drug{number}"])
                other = kit.record(
                    "Why?", "", "" if number == 3 else "So. " * (2 * number + 1), id=f"q:{number}", split="test"
                )
                rows += [row, other]
            path = build.store.local(f"shards/{shard:05d}.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(records.to_arrow(rows), path)
        build.finish({"rows": 2 * SHARDS * ROWS})

    return make


def settings(**fields: Any) -> TokensConfig:
    return TokensConfig(**{"name": "t", "data": "d", "context_tokens": 256, **fields})


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {path: artifact.store.read(path) for path in artifact.manifest["files"]}


def test_a_token_artifact(store: Store, byte_base: Path, make_data: Any) -> None:
    make_data(store)
    made = pipeline.build(store, settings(), str(byte_base), Policy())
    samples, facts = Samples.open(made), made.facts
    expected = [f"{kind}:{number}" for number in range(SHARDS * ROWS) for kind in "sq" if (kind, number) != ("q", 3)]
    assert samples.ids == expected
    assert (facts["rows"], facts["tokens"]) == (len(samples), int(samples.lengths.sum()))
    assert facts["trained_tokens"] == int(samples.trained_tokens.sum())
    assert facts["by_source"]["s"]["train"]["rows"] == len(samples.select("train")) == SHARDS * ROWS
    assert facts["dropped"] == {"s/empty-answer/dropped": 1}
    assert (
        sum(facts["changed"].values())
        == len([e for e in ledger.read(made.store, "ledger") if e.action == "changed"])
        > 0
    )
    assert int(samples.lengths.max()) <= 256 == facts["context_tokens"]
    assert facts["base"] == str(byte_base) and facts["stop_tokens"] == {"<|im_end|>": 2, "<|endoftext|>": 0}
    assert facts["pad_token"] == {"text": "<|padoftext|>", "id": 259, "is_stop": False}
    assert Renderer.open(made).config.context_tokens == 256


def test_tokens_of_one_base_are_not_taken_for_another_s_with_the_same_tokenizer(
    store: Store, byte_base: Path, make_data: Any, tmp_path: Path
) -> None:
    """What is trained on them would be trained over the first, and nobody would see it."""
    make_data(store)
    first = pipeline.build(store, settings(), str(byte_base), Policy())
    other = str(shutil.copytree(byte_base, tmp_path / "other"))
    with pytest.raises(ConfigError, match=rf"base={other}: tokens/t are there, made over {byte_base}, .* or delete "):
        pipeline.build(store, settings(), other, Policy())
    assert pipeline.build(store, settings(), str(byte_base), Policy()).facts == first.facts
    assert pipeline.build(store, settings(), other, Policy(again=True)).facts["base"] == other


def test_the_same_bytes_twice_and_after_a_kill(tmp_path: Path, byte_base: Path, make_data: Any) -> None:
    roots = [Store(str(tmp_path / name)) for name in ("one", "two")]
    for root in roots:
        make_data(root)
    first = pipeline.build(roots[0], settings(), str(byte_base), Policy())
    again = pipeline.build(roots[1], settings(), str(byte_base), Policy())
    assert contents(first) == contents(again)
    # A kill left one shard torn, one without counts, and no manifest.
    again.store.delete("manifest.json")
    again.store.write("shards/00001.arrow", again.store.read("shards/00001.arrow")[:500])
    again.store.delete("counts/00002.json")
    kept = again.store.local("shards/00000.arrow").stat().st_mtime_ns
    resumed = pipeline.build(roots[1], settings(), str(byte_base), Policy())
    assert contents(resumed) == contents(first)
    assert resumed.facts == first.facts
    assert resumed.store.local("shards/00000.arrow").stat().st_mtime_ns == kept


def test_a_whole_artifact_is_opened_and_another_is_refused(store: Store, byte_base: Path, make_data: Any) -> None:
    make_data(store)
    made = pipeline.build(store, settings(), str(byte_base), Policy())
    assert pipeline.build(store, settings(), str(byte_base), Policy()).manifest == made.manifest
    with pytest.raises(IdentityMismatch, match="context_tokens: 256 -> 128"):
        pipeline.build(store, settings(context_tokens=128), str(byte_base), Policy())
    path = made.store.local("shards/00001.arrow")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match="00001.arrow has"):
        pipeline.build(store, settings(), str(byte_base), Policy())


def test_categories_choose_records(store: Store, byte_base: Path, make_data: Any) -> None:
    make_data(store)
    made = pipeline.build(store, settings(categories=("NER",)), str(byte_base), Policy())
    assert set(Samples.open(made).categories) == {"NER"}
    with pytest.raises(DataError, match="categories"):
        pipeline.build(store, settings(name="none", categories=("MT",)), str(byte_base), Policy())


def test_absent_data_name_their_job(store: Store, byte_base: Path) -> None:
    with pytest.raises(MissingArtifact, match=r"data/d.*prepare_data\.py"):
        pipeline.build(store, settings(), str(byte_base), Policy())
