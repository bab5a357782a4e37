"""The whole room on a Ray of two CPUs: what comes out, again, after a break, and when something is wrong."""

import json
from pathlib import Path

import pytest

from medtrain import ledger, plugins
from medtrain.artifacts import Artifact, Policy, locate
from medtrain.config import parse
from medtrain.data import pipeline, stage
from medtrain.data.pipeline import DataConfig
from medtrain.errors import ConfigError, DataError, IdentityMismatch
from medtrain.ledger import Entry
from medtrain.records import Record, from_arrow
from medtrain.storage import Store

NAMES = [name for name, path in plugins.files("data", "sources").items() if path.is_relative_to(plugins.PACKAGE)]


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Every source's example, and one larger file with repeated, empty and broken rows."""
    for name in NAMES:
        for path, text in plugins.load("data", "sources", name).EXAMPLE.files.items():
            file = tmp_path / "raw" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="")
    lines = [json.dumps({"instruction": f"q {n % 90}", "output": f"a {n % 90}" if n % 30 else ""}) for n in range(100)]
    (tmp_path / "raw" / "many.jsonl").write_text("\n".join([*lines, "{broken"]))
    return tmp_path / "raw"


def config(corpora: Path, **settings: object) -> DataConfig:
    content = {
        "name": "made",
        "root": str(corpora),
        "sources": [
            {"source": "alpaca", "name": "many", "path": "many.jsonl"},
            *({"source": n, "path": n, **plugins.load("data", "sources", n).EXAMPLE.config} for n in NAMES),
        ],
        "cleaners": [{"cleaner": "empty_answer"}],
        "holdout": {"rows": 7},
        "shard_rows": 40,
    }
    return parse(DataConfig, content | settings)


def records(artifact: Artifact) -> list[Record]:
    paths = artifact.store.files("shards")
    return [record for path in paths for record in from_arrow(stage.read_parquet(artifact.store, path))]


def test_rows_ledger_and_manifest(ray_cluster: None, store: Store, corpora: Path) -> None:
    made = pipeline.build(store, config(corpora), Policy())
    rows = records(made)
    entries = list(ledger.read(made.store, "ledger"))
    examples = sum(plugins.load("data", "sources", name).EXAMPLE.records for name in NAMES)
    repeated = sum(entry.rule == "duplicate" and entry.source != "many" for entry in entries)
    assert len(rows) == made.facts["rows"] == 87 + examples - repeated
    assert len({row.id for row in rows}) == len(rows)
    official = {
        record.source
        for source, units in pipeline.plan(config(corpora))
        for unit in units
        for batch in stage.read_batches(source, unit, [])
        for record in batch
        if record.split == "validation"
    }
    assert {"chemprot", "promptcblue"} <= official
    assert sum(row.split == "validation" for row in rows if row.source not in official) == 7
    counts = {source: sum(splits.values()) for source, splits in made.facts["by_source"].items()}
    assert counts["many"] == 87
    assert set(counts) == {"many", *NAMES}
    assert made.facts["splits"] == dict.fromkeys(counts, "corpus")
    assert sum(made.facts["dropped"].values()) == len(entries)
    assert {key: n for key, n in made.facts["dropped"].items() if key.startswith("many/")} == {
        "many/bad_json/dropped": 1,
        "many/duplicate/dropped": 9,
        "many/empty_answer/dropped": 4,
    }
    assert made.manifest["identity"]["inputs"]["many/many.jsonl"]
    assert made.store.folders() == ["ledger", "shards"]
    assert locate(store, "data", "made").fingerprint == made.fingerprint


def test_one_cpu_or_two_give_the_same_bytes(ray_cluster: None, store: Store, corpora: Path) -> None:
    import ray
    from ray.data import ExecutionResources

    limits = ray.data.DataContext.get_current().execution_options
    two = pipeline.build(store.sub("two"), config(corpora), Policy())
    limits.resource_limits = ExecutionResources(cpu=1)
    try:
        one = pipeline.build(store.sub("one"), config(corpora), Policy())
    finally:
        limits.resource_limits = ExecutionResources()
    files = [path for path in two.store.files() if path != "manifest.json"]
    assert files == [path for path in one.store.files() if path != "manifest.json"]
    assert all(two.store.read(path) == one.store.read(path) for path in files)
    assert two.fingerprint == one.fingerprint


def test_a_broken_off_run_goes_on_with_what_is_left(ray_cluster: None, store: Store, corpora: Path) -> None:
    begun, works = pipeline.begin(store, config(corpora), Policy())
    stage.stage(begun.store, works[0])
    stage.stage(begun.store, works[2])
    begun.store.delete(f"parts/{works[2].part}.json")
    mark = Entry("data", "many", "x", "x", "mark", "this part was not read again")
    ledger.write(begun.store, f"parts/{works[0].part}.jsonl", [mark])
    ledger.write(begun.store, f"parts/{works[2].part}.jsonl", [mark])
    made = pipeline.build(store, config(corpora), Policy())
    assert [entry.rule for entry in ledger.read(made.store, "ledger")].count("mark") == 1
    fresh = pipeline.build(store.sub("fresh"), config(corpora), Policy())
    assert [made.store.read(p) for p in made.store.files("shards")] == [
        fresh.store.read(p) for p in fresh.store.files("shards")
    ]


def test_identity_is_the_content_and_not_the_place(ray_cluster: None, store: Store, corpora: Path) -> None:
    made = pipeline.build(store, config(corpora), Policy())
    corpora = corpora.rename(corpora.with_name("moved"))
    again, _ = pipeline.begin(store, config(corpora), Policy())
    assert isinstance(again, Artifact)
    assert again.manifest == made.manifest
    with (corpora / "many.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(IdentityMismatch, match=r"inputs.many/many.jsonl"):
        pipeline.begin(store, config(corpora), Policy())


def test_a_source_without_rows_is_refused(ray_cluster: None, store: Store, corpora: Path) -> None:
    wrong = config(corpora, sources=[{"source": "messages", "path": "many.jsonl"}])
    with pytest.raises(DataError, match=r"source messages: gives no row.*bad_row"):
        pipeline.build(store, wrong, Policy())


def test_an_error_in_a_task_comes_back_as_it_is(ray_cluster: None) -> None:
    def run(item: str) -> str:
        if item == "b":
            raise DataError("source made: reading it failed")
        return item.upper()

    assert sorted(pipeline.tasks(str.upper, ["a", "c"])) == ["A", "C"]
    with pytest.raises(DataError, match="source made: reading it failed"):
        list(pipeline.tasks(run, ["a", "b"]))


def test_wrong_settings_say_where(corpora: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)data.sources.0.*max_row.*did you mean 'max_rows'"):
        config(corpora, sources=[{"source": "alpaca", "path": "x", "max_row": 1}])
    with pytest.raises(ConfigError, match=r"data.cleaners.0.*no plug-in"):
        config(corpora, cleaners=[{"cleaner": "nothing"}])
    with pytest.raises(ConfigError, match="two sources are called 'alpaca'"):
        config(corpora, sources=[{"source": "alpaca", "path": "x"}] * 2)
    with pytest.raises(DataError, match="no folder"):
        pipeline.plan(config(corpora / "nowhere"))
