"""emrQA: its versions' shapes, paraphrases, challenges, evidence, notes that another corpus has too."""

import json
from pathlib import Path
from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import emrqa
from medtrain.errors import DataError
from medtrain.records import Record


def read(root: Path, content: Any, **settings: Any) -> tuple[list[Record], list[Problem]]:
    (root / "data.json").write_text(content if isinstance(content, str) else json.dumps(content))
    config = emrqa.Config(source="emrqa", path=".", **settings)
    items = [item for unit in emrqa.units(config, root) for item in emrqa.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_paraphrases_are_records_up_to_a_number(tmp_path: Path) -> None:
    for count, queries in ((1, ["What does he take"]), (5, ["What does he take", "Which drug does he take"])):
        records, _ = read(tmp_path, emrqa.EXAMPLE.files["data.json"], paraphrases=count, challenges=["medication"])
        assert [r.turns[0].query for r in records] == queries
        assert [r.id for r in records] == [f"emrqa:data.json/medication:1#1.{n + 1}" for n in range(len(queries))]
        assert {r.turns[0].context for r in records} == {"Day 1 :\nHe takes drug A ."}
        assert {r.turns[1].text for r in records} == {"drug A"}
        assert records[0].meta == {"evidence": ["He takes drug A ."]}
        assert {r.document_id for r in records} == {"emrqa:medication/n1"}


def test_every_challenge_is_taken_unless_some_are_named(tmp_path: Path) -> None:
    records, problems = read(tmp_path, emrqa.EXAMPLE.files["data.json"])
    assert [r.document_id for r in records] == ["emrqa:medication/n1", "emrqa:smoking/n2"]
    assert [(p.position, p.rule) for p in problems] == [("data.json/smoking:1#1", "empty_answer")]
    with pytest.raises(DataError, match=r"challenges=\['alcohol'\].*it has medication, smoking"):
        read(tmp_path, emrqa.EXAMPLE.files["data.json"], challenges=["smoking", "alcohol"])


def test_answers_are_one_list_and_a_relations_note_is_the_one_of_i2b2(tmp_path: Path) -> None:
    answers = [{"text": "b", "evidence": "x"}, {"text": ["c", ""], "evidence": ["x", "y"]}, {"text": "b"}, None]
    note = {"note_id": "record-1", "context": "x\ny", "qas": [{"question": "q", "answers": answers}]}
    ((record,), problems) = read(tmp_path, {"data": [{"title": "relations", "paragraphs": [note]}]})
    assert record.turns[1].text == "b; c"
    assert record.meta == {"evidence": ["x", "y"]}
    assert record.document_id == "i2b2_2010:record-1"
    assert problems == []


def test_bad_rows_are_said(tmp_path: Path) -> None:
    questions = [{"question": [], "answers": []}, {"question": "q"}, 3, {"question": "q", "answers": []}]
    notes = [{"note_id": "n", "context": "x", "qas": questions}, {"context": [], "qas": []}, {"context": "x"}]
    records, problems = read(tmp_path, {"data": [{"title": "obesity", "paragraphs": notes}]})
    assert records == []
    assert [p.rule for p in problems] == ["bad_row", "bad_row", "bad_row", "empty_answer", "bad_note", "bad_note"]
