"""MedQA: which files count, languages by content, rows that are no question, the published test files."""

import json
from collections import Counter
from pathlib import Path

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import medqa
from medtrain.errors import DataError
from medtrain.records import Record
from medtrain.tokens.wording import options

ROW = {"question": "What helps?", "options": {"A": "Rest", "B": "Noise"}, "answer": "Rest", "answer_idx": "A"}
FOLDER = "data/medqa_usmle/medagents_benchmark"


def read(root: Path, path: str, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = medqa.Config.model_validate({"source": "medqa", "path": path, **settings})
    items = [item for unit in medqa.units(config, root) for item in medqa.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_regions_and_splits_by_name(tmp_path: Path) -> None:
    names = {
        "US/train.jsonl": "train",
        "US/US_qbank.jsonl": None,
        "US/4_options/phrases_no_exclude_train.jsonl": None,
        "Mainland/dev.jsonl": "validation",
        "Taiwan/test.jsonl": "test",
        "Atlantis/test.jsonl": None,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        question = "What helps?" if name.startswith("US") else "下列何者有益？"
        (tmp_path / name).write_text(json.dumps({**ROW, "question": question}) + "\n")
    records, problems = read(tmp_path, ".")
    assert problems == []
    assert {r.id: (r.split, r.language) for r in records} == {
        "medqa:US/train.jsonl:1": ("train", "en"),
        "medqa:Mainland/dev.jsonl:1": ("validation", "zh"),
        "medqa:Taiwan/test.jsonl:1": ("test", "zh"),
    }
    (record,), _ = read(tmp_path, "US/4_options")
    assert (record.id, record.split) == ("medqa:phrases_no_exclude_train.jsonl:1", "train")
    with pytest.raises(DataError, match="US_qbank"):
        read(tmp_path, "US/US_qbank.jsonl")


def test_rows_that_are_no_question(tmp_path: Path) -> None:
    rows = [
        ROW,
        {**ROW, "options": {"A": "Rest", "B": "Noise", "C": " "}, "answer": "Rest\n"},
        {**ROW, "question": " "},
        {**ROW, "options": {"A": "Rest"}},
        {**ROW, "options": [{"key": "A", "value": "Rest"}]},
        {**ROW, "options": {"A": "Rest", "2": "Noise"}},
        {**ROW, "answer_idx": "C"},
        {**ROW, "answer_idx": None},
        {**ROW, "answer": "Noise"},
    ]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, problems = read(tmp_path, "dev.jsonl")
    gold = {"options": {"A": "Rest", "B": "Noise"}, "answer": "A"}
    assert [r.gold for r in records] == [gold, gold]
    assert [(p.position, p.rule) for p in problems] == [
        ("dev.jsonl:3", "no_question"),
        ("dev.jsonl:4", "bad_options"),
        ("dev.jsonl:5", "bad_options"),
        ("dev.jsonl:6", "bad_options"),
        ("dev.jsonl:7", "bad_answer"),
        ("dev.jsonl:8", "bad_answer"),
        ("dev.jsonl:9", "bad_answer"),
    ]


def test_published_test_files_in_both_forms(shared: Path) -> None:
    four, problems = read(shared, f"{FOLDER}/medqa")
    five, more = read(shared, f"{FOLDER}/medqa_5options/test.jsonl")
    assert problems == more == []
    assert len(four) == len(five) == 1273
    assert Counter((r.split, r.language, r.meta["meta_info"]) for r in four) == {
        ("test", "en", "step1"): 679,
        ("test", "en", "step2&3"): 594,
    }
    golds = [(r.gold or {}, s.gold or {}) for r, s in zip(four, five, strict=True)]
    assert [r.turns[0].query for r in four] == [r.turns[0].query for r in five]
    assert all(r["options"][r["answer"]] == s["options"][s["answer"]] for r, s in golds)
    assert sum(r["answer"] != s["answer"] for r, s in golds) == 600
    broken = [
        sum(any("\n" in text for text in gold["options"].values()) for gold in form)
        for form in zip(*golds, strict=True)
    ]
    assert broken == [38, 52]
    for gold in (gold for pair in golds for gold in pair):
        assert options.render(gold, "en").count("\n") == 0
        assert options.parse(options.render(gold, "en"), "en") == {"answer": gold["answer"]}
