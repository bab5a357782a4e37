"""A file of messages in, answers out: every kind of row and file, a killed job, and one question."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medtrain import config, ledger
from medtrain.artifacts import Policy
from medtrain.data.source import Problem
from medtrain.errors import DataError, MissingArtifact
from medtrain.evaluate import predict
from medtrain.evaluate.predict import PredictConfig
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store

CLUSTER = RuntimeConfig(workers=1, cpus_per_worker=0.5, use_gpu=False)
ROWS: list[Any] = [
    {"messages": [{"role": "user", "content": "What helps?"}], "key": 7},
    {"prompt": "发烧怎么办？"},
    {"messages": [{"role": "assistant", "content": "secret words"}]},
    {"question": "secret words"},
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "And now?"},
        ]
    },
    {"prompt": "x " * 900},
]


def settings(path: Path | None, **changes: Any) -> PredictConfig:
    content = {
        "name": "toy",
        "system": {"name": "stage 1", "run": "stage1/toy"},
        "input": None if path is None else str(path),
        "chunk_rows": 2,
        "generation": {"max_new_tokens": 6},
    }
    return config.parse(PredictConfig, {**content, **changes})


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    path.write_text(text + "not json, secret words\n", encoding="utf-8")
    return path


def test_a_file_is_answered_and_bad_rows_are_in_the_ledger(ray_cluster: None, world: Store, lines: Path) -> None:
    made = predict.predict(world, settings(lines), Policy(), CLUSTER)
    rows = [json.loads(line) for line in made.store.read("answers.jsonl").decode().splitlines()]
    assert [row["position"] for row in rows] == ["in.jsonl:1", "in.jsonl:2", "in.jsonl:5"]
    assert rows[0]["key"] == 7 and rows[1]["prompt"] == ROWS[1]["prompt"]
    assert all(isinstance(row["answer"], str) and row["answer_tokens"] <= 6 for row in rows)
    entries = list(ledger.read(made.store, "ledger"))
    assert sorted((e.position, e.rule) for e in entries) == [
        ("in.jsonl:3", "no_question"),
        ("in.jsonl:4", "bad_row"),
        ("in.jsonl:6", "refused"),
        ("in.jsonl:7", "bad_json"),
    ]
    assert "secret" not in made.store.read(predict.LEDGER).decode()
    assert made.facts == {"rows": 3, "dropped": {f"input/{r}/dropped": 1 for r in sorted(e.rule for e in entries)}}
    assert predict.predict(world, settings(lines), Policy(), CLUSTER).manifest == made.manifest

    # A job that died before its end: the parts are kept as they are.
    made.store.delete("manifest.json")
    made.store.delete("answers.jsonl")
    first = made.store.read("parts/00000.jsonl").replace(b'"text": "', b'"text": "kept ')
    made.store.write("parts/00000.jsonl", first)
    resumed = predict.predict(world, settings(lines), Policy(), CLUSTER)
    assert resumed.store.read("parts/00000.jsonl") == first
    assert json.loads(resumed.store.read("answers.jsonl").decode().splitlines()[0])["answer"].startswith("kept ")

    answer = predict.ask(world, settings(None), "What helps?", CLUSTER)
    assert answer == rows[0]["answer"]


def test_parquet_and_arrays_are_read_too(tmp_path: Path) -> None:
    rows = [ROWS[1], {"prompt": "What helps?"}]
    array = tmp_path / "in.json"
    array.write_text(json.dumps(rows), encoding="utf-8")
    table = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    for path in (array, table):
        found = list(predict.read(settings(path)))
        assert [r.turns[0].query for r in found if not isinstance(r, Problem)] == [row["prompt"] for row in rows]


def test_the_language_is_that_of_the_last_question() -> None:
    found = [predict.record_of({"prompt": text}, "p:1", "auto") for text in ("发烧怎么办？", "What helps?")]
    assert [r.language for r in found if not isinstance(r, Problem)] == ["zh", "en"]


def test_a_last_answer_in_the_input_is_answered_again() -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    found = predict.record_of({"messages": messages}, "p:1", "auto")
    assert not isinstance(found, Problem) and [t.role for t in found.turns] == ["user", "assistant"]


def test_the_plan_counts_rows_and_chunks(lines: Path) -> None:
    assert "answers 4 rows in 2 chunks, at most 24 generated tokens; 3 rows cannot be read" in predict.describe(
        settings(lines)
    )


def test_what_is_missing_is_said_first(world: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--prompt"):
        predict.check(world, settings(None), None)
    with pytest.raises(DataError, match="no such file"):
        predict.check(world, settings(tmp_path / "none.jsonl"), None)
    with pytest.raises(MissingArtifact, match="jobs/stage2.py"):
        predict.check(world, settings(None, system={"name": "s", "run": "stage2/toy"}), "question")
