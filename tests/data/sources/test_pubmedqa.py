"""PubMedQA: the official split, both answers, rows without one, the published labelled part."""

import json
from collections import Counter
from pathlib import Path

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import pubmedqa
from medtrain.errors import DataError
from medtrain.records import Record

ROW = {"QUESTION": "Is it?", "CONTEXTS": [" One. ", "", "Two."], "final_decision": "maybe", "LONG_ANSWER": "Perhaps."}


def read(root: Path, path: str, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = pubmedqa.Config.model_validate({"source": "pubmedqa", "path": path, **settings})
    items = [item for unit in pubmedqa.units(config, root) for item in pubmedqa.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def write(root: Path, rows: dict[str, object], ids: str = '{"2": "no"}') -> None:
    (root / "ori_pqal.json").write_text(json.dumps(rows, indent=2))
    (root / "test_ground_truth.json").write_text(ids)


def test_a_decision_or_the_conclusion_in_words(tmp_path: Path) -> None:
    write(tmp_path, {"1": ROW, "2": ROW})
    (first, second), _ = read(tmp_path, ".")
    assert (first.id, first.document_id, first.split, second.split) == ("pubmedqa:1", "pmid:1", "train", "test")
    assert (first.task, first.gold) == ("choice", {"label": "maybe", "label_set": ["yes", "no", "maybe"]})
    assert (first.turns[0].query, first.turns[0].context, first.turns[1].text) == ("Is it?", "One.\nTwo.", "")
    (first, _), _ = read(tmp_path, "ori_pqal.json", answer="long")
    assert (first.task, first.gold, first.turns[1].text) == ("qa", None, "Perhaps.")


def test_rows_without_what_is_asked_for(tmp_path: Path) -> None:
    rows = {
        "1": {**ROW, "final_decision": None},
        "2": {**ROW, "LONG_ANSWER": " "},
        "3": {**ROW, "CONTEXTS": "One."},
        "4": {**ROW, "QUESTION": ""},
        "5": [],
    }
    write(tmp_path, rows)
    rules = {answer: [(p.id, p.rule) for p in read(tmp_path, ".", answer=answer)[1]] for answer in ("decision", "long")}
    shared_rules = [("3", "bad_contexts"), ("4", "no_question"), ("", "bad_json")]
    assert rules == {
        "decision": [("1", "no_decision"), *shared_rules],
        "long": [("2", "empty_answer"), *shared_rules],
    }


@pytest.mark.parametrize("ids", ["[]", "{}", '{"2": ', "no"])
def test_nothing_is_read_without_the_test_ids(tmp_path: Path, ids: str) -> None:
    write(tmp_path, {"1": ROW}, ids)
    records, problems = read(tmp_path, ".")
    assert records == []
    assert [p.rule for p in problems] == ["bad_test_ids"]
    assert len(read(tmp_path, ".", test_ids=None)[0]) == 1
    (tmp_path / "test_ground_truth.json").unlink()
    with pytest.raises(DataError, match="test_ground_truth"):
        read(tmp_path, ".")


def test_published_labelled_part(shared: Path) -> None:
    records, problems = read(shared, "data/pubmedqa")
    assert problems == []
    assert len({r.id for r in records}) == 1000
    found = Counter((r.split, (r.gold or {})["label"]) for r in records)
    each = {"yes": 276, "no": 169, "maybe": 55}
    assert found == {(split, label): count for split in ("train", "test") for label, count in each.items()}
    raw = json.loads((shared / "data/pubmedqa/ori_pqal.json").read_bytes())
    assert all(r.turns[0].context.split("\n") == raw[r.id.split(":")[1]]["CONTEXTS"] for r in records)
    assert len(read(shared, "data/pubmedqa", answer="long")[0]) == 1000
