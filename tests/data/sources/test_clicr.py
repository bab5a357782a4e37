"""CliCR: marks, gaps, which answer is taught, whole reports as documents, ranges of a large file."""

import json
from pathlib import Path
from typing import Any

import pytest

from medtrain.data import nested
from medtrain.data.source import Problem
from medtrain.data.sources import clicr
from medtrain.records import Record


def read(root: Path) -> tuple[list[Record], list[Problem]]:
    config = clicr.Config(source="clicr", path=".", files={"train": "train1.0.json"})
    items = [item for unit in clicr.units(config, root) for item in clicr.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_marks_go_and_the_report_s_own_words_are_taught(tmp_path: Path) -> None:
    (tmp_path / "train1.0.json").write_text(clicr.EXAMPLE.files["train1.0.json"])
    (record,), problems = read(tmp_path)
    assert problems == []
    assert (record.id, record.document_id) == ("clicr:a.1", "clicr:case-1")
    assert record.turns[0].query == "Rest helps against @placeholder ."
    assert record.turns[0].context == "A made case\nHe had high fever .\n\nIt fell ."
    assert record.gold == {"answers": ["high fever", "pyrexia"]}


def test_many_reports_come_in_ranges_each_question_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "RANGE_BYTES", 2000)
    report = json.loads(clicr.EXAMPLE.files["train1.0.json"])["data"][0]
    reports = []
    for number in range(50):
        questions = [{**report["document"]["qas"][0], "id": f"{number}.{k}"} for k in range(number % 4)]
        reports.append({"source": f"case-{number}", "document": {**report["document"], "qas": questions}})
    (tmp_path / "train1.0.json").write_text(json.dumps({"version": "1", "data": reports}))
    config = clicr.Config(source="clicr", path=".", files={"train": "train1.0.json"})
    assert len(clicr.units(config, tmp_path)) > 5
    records, problems = read(tmp_path)
    assert [r.id for r in records] == [f"clicr:{n}.{k}" for n in range(50) for k in range(n % 4)]
    assert problems == []


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    def question(**changes: Any) -> dict[str, Any]:
        return {"id": "q", "query": "a @placeholder", "answers": [{"text": "b", "origin": "dataset"}], **changes}

    questions = [question(query="no gap"), question(answers=[{"text": "BEG____END"}, 3]), question(answers=None), "x"]
    document = {"title": "", "context": "c", "qas": questions}
    data = [{"source": "s", "document": document}, {"document": {"title": 1}}, {}, 5]
    (tmp_path / "train1.0.json").write_text(json.dumps({"data": data}))
    records, problems = read(tmp_path)
    assert records == []
    assert [(p.position, p.rule) for p in problems] == [
        ("train1.0.json:1#1", "bad_row"),
        ("train1.0.json:1#2", "empty_answer"),
        ("train1.0.json:1#3", "bad_row"),
        ("train1.0.json:1#4", "bad_row"),
        ("train1.0.json:2", "bad_document"),
        ("train1.0.json:3", "bad_document"),
        ("train1.0.json:4", "bad_json"),
    ]
