"""Dialogues and instructions: turns, languages, and rows that cannot be one."""

import json
from pathlib import Path

import pytest

from medtrain.data import stage
from medtrain.data.source import Problem, SourceConfig
from medtrain.errors import ConfigError
from medtrain.plugins import load
from medtrain.records import Record


def read(tmp_path: Path, rows: list[object], **settings: object) -> list[Record | Problem]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config: SourceConfig = stage.source_config({"path": "rows.jsonl", **settings})
    module = load("data", "sources", config.source)
    return [item for unit in module.units(config, tmp_path) for item in module.read(unit, config)]


def said(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def test_every_answer_of_a_dialogue_is_trained(tmp_path: Path) -> None:
    row = said(("system", "s"), ("user", "问题"), ("assistant", "one"), ("user", "b"), ("assistant", "two"))
    (record,) = read(tmp_path, [row], source="messages", task="identity")
    assert isinstance(record, Record)
    assert [t.trained for t in record.turns] == [False, False, True, False, True]
    assert (record.turns[0].text, record.turns[1].query, record.turns[4].text) == ("s", "问题", "two")
    assert (record.task, record.category, record.language) == ("identity", "SELF", "zh")


def test_rows_that_are_no_dialogue_are_said(tmp_path: Path) -> None:
    rows: list[object] = [
        said(("user", "a")),
        said(("assistant", "a")),
        said(("user", " "), ("assistant", "a")),
        said(("tool", "a"), ("assistant", "a")),
        said(("user", None), ("assistant", "a")),
        {"messages": ["a"]},
        {"messages": "a"},
        {},
    ]
    problems = read(tmp_path, rows, source="messages")
    assert [p.rule for p in problems if isinstance(p, Problem)] == [
        "no_answer",
        "no_question",
        "no_question",
        *["bad_row"] * 5,
    ]


def test_instruction_and_input_stay_parts(tmp_path: Path) -> None:
    rows: list[object] = [
        {"instruction": "Read.", "input": "患者发热", "output": "fever"},
        {"instruction": "", "input": "患者发热", "output": "fever", "system": "s"},
        {"instruction": "a", "input": None, "output": "b"},
        {"instruction": "a", "input": 3, "output": "b"},
        {"instruction": "a"},
    ]
    first, second, third, *rest = read(tmp_path, rows, source="alpaca", task="qa")
    assert isinstance(first, Record) and isinstance(second, Record) and isinstance(third, Record)
    assert (first.turns[0].query, first.turns[0].context, first.language) == ("Read.", "患者发热", "en")
    assert (second.turns[0].text, second.language) == ("s", "zh")
    assert third.turns[0].context == ""
    assert [p.rule for p in rest if isinstance(p, Problem)] == ["bad_row", "bad_row"]


def test_a_task_without_category_needs_one(tmp_path: Path) -> None:
    row = said(("user", "a"), ("assistant", "b"))
    with pytest.raises(ConfigError, match="set category"):
        read(tmp_path, [row], source="messages", task="poetry")
    (record,) = read(tmp_path, [row], source="messages", task="poetry", category="GENERAL")
    assert isinstance(record, Record)
    assert record.category == "GENERAL"


def test_published_files(shared: Path) -> None:
    counts = {}
    for settings in (
        {"source": "cmedqa2_text", "path": "data/cmedqa2_text/test.json"},
        {"source": "coig_cqia", "path": "data/coig_cqia"},
        {"source": "alpaca", "path": "data/chatdoctor/chatdoctor5k.json", "task": "qa"},
    ):
        config = stage.source_config(settings)
        module = load("data", "sources", config.source)
        items = [item for unit in module.units(config, shared) for item in module.read(unit, config)]
        assert not [item for item in items if isinstance(item, Problem)]
        counts[config.source] = len({item.id for item in items})
    assert counts == {"cmedqa2_text": 4000, "coig_cqia": 4770, "alpaca": 5452}
