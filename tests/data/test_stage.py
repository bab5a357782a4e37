"""One unit to one part."""

import json
from pathlib import Path

import pytest

from medtrain.data import jsonfiles, stage
from medtrain.data.cleaning import CleanerConfig
from medtrain.data.source import SourceConfig, Unit
from medtrain.errors import ConfigError, DataError
from medtrain.storage import Store


def corpus(folder: Path, rows: int) -> tuple[SourceConfig, Path]:
    path = folder / "rows.jsonl"
    lines = [json.dumps({"instruction": f"q {n}", "output": f"a {n}" if n % 10 else ""}) for n in range(rows)]
    path.write_text("\n".join([*lines, "{broken"]))
    return stage.source_config({"source": "alpaca", "path": str(path)}), path


def staged(store: Store, config: SourceConfig, unit: Unit, part: str = "000-00000") -> dict[str, object]:
    rules: list[CleanerConfig] = [stage.cleaner_config({"cleaner": "empty_answer"})]
    work = stage.as_work(part, unit, config, rules, seed=1)
    stage.stage(store, stage.Work(**json.loads(json.dumps({k: getattr(work, k) for k in work.__slots__}))))
    return stage.marker(store, part)


def test_a_part_is_its_rows_its_ledger_and_last_its_marker(store: Store, tmp_path: Path) -> None:
    config, path = corpus(tmp_path, 3000)
    marker = staged(store, config, Unit(str(path), path.name))
    dropped = {"alpaca/bad_json/dropped": 1, "alpaca/empty_answer/dropped": 300}
    assert marker == {"rows": 2700, "clean": 2700, "dropped": dropped}
    table = stage.read_parquet(store, "parts/000-00000.parquet")
    assert table.schema.equals(stage.PART_SCHEMA)
    assert table["id"].to_pylist()[:2] == ["alpaca:rows.jsonl:2", "alpaca:rows.jsonl:3"]
    lines = [json.loads(line) for line in store.read("parts/000-00000.jsonl").decode().splitlines()]
    assert len(lines) == 301
    positions = {(line["rule"], line["position"]) for line in lines}
    assert {("empty_answer", "alpaca:rows.jsonl:1"), ("bad_json", "rows.jsonl:3001")} < positions


def test_max_rows_draws_the_same_rows_however_the_file_is_cut(store: Store, tmp_path: Path) -> None:
    whole, path = corpus(tmp_path, 3000)
    config = whole.model_copy(update={"max_rows": 50})
    assert staged(store, config, Unit(str(path), path.name), "whole")["rows"] == 50
    ids = set(stage.read_parquet(store, "parts/whole.parquet")["id"].to_pylist())
    pieces: set[str] = set()
    for number, piece in enumerate(jsonfiles.ranges(path, 20_000)):
        staged(store, config, Unit(str(path), path.name, "train", *piece), str(number))
        pieces |= set(stage.read_parquet(store, f"parts/{number}.parquet")["id"].to_pylist())
    assert ids < pieces


def test_a_local_split_cuts_the_rows_anew(store: Store, tmp_path: Path) -> None:
    config, path = corpus(tmp_path, 1000)
    cut = stage.source_config({**config.model_dump(), "local_split": {"validation": 0.2, "test": 0.3}})
    staged(store, cut, Unit(str(path), path.name))
    splits = stage.read_parquet(store, "parts/000-00000.parquet")["split"].to_pylist()
    shares = {split: splits.count(split) / len(splits) for split in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.5, "validation": 0.2, "test": 0.3}, abs=0.05)


def test_the_same_unit_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    config, path = corpus(tmp_path, 100)
    for part in ("a", "b"):
        staged(store, config, Unit(str(path), path.name), part)
    for suffix in ("parquet", "jsonl", "json"):
        assert store.read(f"parts/a.{suffix}") == store.read(f"parts/b.{suffix}")


def test_a_reader_that_raises_is_named_without_its_row(store: Store, tmp_path: Path) -> None:
    config, path = corpus(tmp_path, 10)
    path.unlink()
    with pytest.raises(DataError, match=r"source alpaca: reading rows.jsonl .* raised FileNotFoundError at .*\.py:\d+"):
        staged(store, config, Unit(str(path), path.name))
    assert not stage.is_whole(store, "000-00000")


def test_unknown_plug_ins_are_said() -> None:
    with pytest.raises(ConfigError, match="bc5cdr"):
        stage.source_config({"source": "bc5cdl", "path": "x"})
    with pytest.raises(ConfigError, match="empty_answer"):
        stage.cleaner_config({"cleaner": "empty_answers"})
