"""WikiMed: labels by frequency among train rows, semantic types, names of concepts, ranges that count the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from medtrain.data import jsonfiles
from medtrain.data.source import Problem
from medtrain.data.sources import wikimed
from medtrain.data.stage import source_config
from medtrain.errors import ConfigError, DataError
from medtrain.records import Record

MRSTY = "C0000001|T184|A2|Sign or Symptom|AT1||\nC0000002|T121|A1|Drug|AT2||\nC0000003|T047|B2|Disease|AT3|256|\n"
MRSTY += "C0000003|T121|A1|Drug|AT4||\nbad\nC1||||\n"


def article(id: str, links: dict[str, str], split: str = "train", **changes: Any) -> str:
    offsets = {"start_offset": 0, "end_offset": 1}
    mentions = [{"mention": words, **offsets, "link_id": link} for words, link in links.items()]
    row = {"_id": id, "title": f"Title {id}", "text": f"Text {id} .", "split": split, "mentions": mentions}
    return json.dumps({**row, **changes}) + "\n"


def read(root: Path, **settings: Any) -> tuple[list[Record], list[Problem]]:
    config = source_config({"source": "wikimed", "path": "corpus", **settings})
    assert isinstance(config, wikimed.Config)
    items = [item for unit in wikimed.units(config, root) for item in wikimed.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def write(root: Path, *lines: str) -> None:
    (root / "corpus").mkdir()
    (root / "corpus/wikimed.json").write_text("".join(lines))
    (root / "MRSTY.RRF").write_text(MRSTY)


def gold(record: Record) -> tuple[list[str], list[str]]:
    return (record.gold or {})["labels"], (record.gold or {})["label_set"]


def test_semantic_types(tmp_path: Path) -> None:
    write(
        tmp_path,
        article("1", {"a": "C0000002", "b": "C0000003"}, text="Title 1 is this ."),
        article("2", {"b": "C0000001|C0000002"}),
        article("3", {"c": "C0000001", "d": "C0000009"}, "valid"),
        article("4", {"c": "C0000001"}, "test"),
    )
    records, problems = read(tmp_path, mrsty="MRSTY.RRF")
    types = ["Drug", "Disease", "Sign or Symptom"]
    assert [(r.split, *gold(r)) for r in records] == [
        ("train", ["Drug", "Disease"], types),
        ("train", ["Drug", "Sign or Symptom"], types),
        ("validation", ["Sign or Symptom"], types),
        ("test", ["Sign or Symptom"], types),
    ]
    assert [r.turns[0].context for r in records[:2]] == ["Title 1 is this .", "Title 2\nText 2 ."]
    assert problems == []
    records, problems = read(tmp_path, mrsty="MRSTY.RRF", top=2)
    assert {tuple(gold(r)[1]) for r in records} == {("Drug", "Disease")}
    assert [(p.rule, p.id) for p in problems] == [("no_label", "3"), ("no_label", "4")]


def test_concepts_bear_the_words_that_stand_for_them_most_often(tmp_path: Path) -> None:
    write(
        tmp_path,
        article("1", {"Heart  attack": "C1|C2", "attack": "C1|C2", "fever": "C3"}),
        article("2", {"heart attack": "C1|C2"}),
        article("3", {"MI": "C1|C2", "pyrexia": "C3", "rare": "C4"}),
        article("4", {"rare": "C4", "fever": "C3", "later": "C5"}, "test"),
    )
    records, _ = read(tmp_path, labels="concept", top=2)
    both = ["heart attack", "fever"]
    assert [gold(r)[0] for r in records] == [both, ["heart attack"], both, ["fever"]]
    assert gold(records[0])[1] == ["heart attack", "fever"]
    records, _ = read(tmp_path, labels="concept", counted_rows=1)
    assert gold(records[0])[1] == ["attack", "fever"]


def test_every_range_counts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(article(str(n), {"a": f"C{n % 3}", "b": f"C{n % 5}"}) for n in range(60)))
    whole = read(tmp_path, labels="concept", top=3)
    monkeypatch.setattr(jsonfiles.ranges, "__defaults__", (500,))
    config = wikimed.Config(source="wikimed", path="corpus", labels="concept", top=3)
    assert len(wikimed.units(config, tmp_path)) > 5
    assert read(tmp_path, labels="concept", top=3) == whole
    assert len(whole[0]) + len(whole[1]) == 60


def test_bad_rows_and_settings_are_said(tmp_path: Path) -> None:
    rows = [article("1", {"a": "C1"}), article("2", {}, "other"), article("3", {}, mentions=[3, {"link_id": 4}])]
    write(tmp_path, *rows, article("4", {}, split=["train"]))
    _, problems = read(tmp_path, labels="concept")
    assert [(p.rule, p.id) for p in problems] == [("bad_row", "2"), ("no_label", "3"), ("bad_row", "4")]
    with pytest.raises(ConfigError, match="labels=semantic_type needs mrsty"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path, mrsty="META/MRSTY.RRF")
