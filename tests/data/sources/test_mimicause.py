"""MIMICause: quoted cells over several lines, labels by number or name, marks, one file or three."""

from pathlib import Path
from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import mimicause
from medtrain.records import Record


def read(root: Path, **settings: Any) -> tuple[list[Record], list[Problem]]:
    config = mimicause.Config(source="mimicause", path=".", **settings)
    items = [item for unit in mimicause.units(config, root) for item in mimicause.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_marks_stay_and_a_passage_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(
        "\ufeffE1,E2,Text,Label\n"
        'a,b,"<e1>a</e1> and,\n<e2>b</e2>",1\n'
        'b,a,"<e2>a</e2> and, <e1>b</e1> ","Hinder(E1, E2)"\n'
        "a,b,<e1>a</e1> <e2>b</e2>,9\na,b,<e1>a</e1> <e1>b</e1>,3\na\n",
        encoding="utf-8",
    )
    records, problems = read(tmp_path)
    assert [(r.turns[0].context, (r.gold or {})["label"]) for r in records] == [
        ("<e1>a</e1> and,\n<e2>b</e2>", "Cause(E2,E1)"),
        ("<e2>a</e2> and, <e1>b</e1>", "Hinder(E1,E2)"),
    ]
    assert len({r.document_id for r in records}) == 1
    assert [r.meta for r in records] == [{"e1": "a", "e2": "b"}, {"e1": "b", "e2": "a"}]
    assert [(p.position, p.rule) for p in problems] == [
        ("one.csv", "byte_order_mark"),
        ("one.csv:3", "unknown_label"),
        ("one.csv:4", "bad_marks"),
        ("one.csv:5", "unknown_label"),
    ]


def test_three_files_are_three_splits(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text(f",E1,E2,Text,Label\n0,a,b,{name} <e1>a</e1> <e2>b</e2>,8.0\n")
    records, problems = read(tmp_path, files={"train": "train.csv", "validation": "dev.csv", "test": "test.csv"})
    assert [(r.split, r.id) for r in records] == [
        ("train", "mimicause:train.csv:1"),
        ("validation", "mimicause:dev.csv:1"),
        ("test", "mimicause:test.csv:1"),
    ]
    assert problems == []
    (tmp_path / "test.csv").write_text("E1,Text,Label\n")
    assert [p.rule for p in read(tmp_path)[1]] == ["bad_columns"]


@pytest.mark.parametrize(("value", "label"), [("0", "Cause(E1,E2)"), ("8", "Other"), ("Other", "Other"), ("-1", None)])
def test_labels(value: str, label: str | None) -> None:
    assert mimicause.label_of(value) == label
