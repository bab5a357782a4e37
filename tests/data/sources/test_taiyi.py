"""Taiyi: what is chosen, how categories become tasks, languages by the question."""

import json
from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import taiyi
from medtrain.records import Record


def read(root: Path, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = taiyi.Config.model_validate({"source": "taiyi", **settings})
    items = [item for unit in taiyi.units(config, root) for item in taiyi.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_categories_and_sets_are_chosen_and_the_rest_is_said(tmp_path: Path) -> None:
    row = {
        "conversation_id": 1,
        "category": "RE",
        "dataset": "made",
        "conversation": [{"human": "q", "assistant": "a"}],
    }
    rows = [
        row,
        {**row, "conversation_id": 2, "dataset": "mimicause"},
        {**row, "conversation_id": 3, "category": "MRD", "conversation": row["conversation"] * 2},  # type: ignore[operator]
        {**row, "conversation_id": 4, "category": "COT"},
        {**row, "conversation_id": 5, "conversation": [{"human": "q"}]},
        {**row, "conversation_id": 6, "conversation": []},
        {**row, "conversation_id": None},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, problems = read(tmp_path, path="rows.jsonl", categories=["RE", "MRD"])
    assert [(r.id, r.task, r.category, len(r.turns)) for r in records] == [
        ("taiyi:1", "general", "RE", 2),
        ("taiyi:3", "qa", "QA", 4),
    ]
    assert [(p.id, p.rule) for p in problems] == [
        ("2", "excluded_dataset"),
        ("4", "not_chosen"),
        ("5", "bad_row"),
        ("6", "bad_row"),
        ("None", "bad_row"),
    ]


def test_published_examples(shared: Path) -> None:
    records, problems = read(shared, path="data/taiyi/Taiyi_Instruction_Data_Example.jsonl")
    assert problems == []
    assert Counter(r.category for r in records) == {"MT": 6, "TC": 7, "RE": 4, "NER": 4}
    assert Counter((r.meta["category"], r.language) for r in records if r.task == "translation") == {
        ("MT-en2zh", "en"): 4,
        ("MT-zh2en", "zh"): 2,
    }
