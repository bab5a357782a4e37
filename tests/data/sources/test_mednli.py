"""MedNLI: pairs as two lines, premises as documents, the zip as it is published, rows without agreement."""

import zipfile
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import mednli
from medtrain.records import Record


def read(root: Path, path: str) -> tuple[list[Record], list[Problem]]:
    config = mednli.Config(source="mednli", path=path)
    items = [item for unit in mednli.units(config, root) for item in mednli.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_zip_and_folder_give_the_same_pairs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mednli.zip", "w") as file:
        for name, text in mednli.EXAMPLE.files.items():
            file.writestr(name, text)
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_text(text)
    records, problems = read(tmp_path, "mednli.zip")
    assert (records, problems) == read(tmp_path, "folder")
    assert [(r.id, r.split, (r.gold or {})["label"]) for r in records] == [
        ("mednli:1", "train", "entailment"),
        ("mednli:2", "train", "neutral"),
        ("mednli:3", "validation", "contradiction"),
    ]
    assert records[0].turns[0].context == "He was told to rest.\nHe rests."
    assert len({r.document_id for r in records}) == 1
    assert [(p.position, p.rule, p.id) for p in problems] == [("made-1.0/mli_test_v1.jsonl:1", "unknown_label", "4")]


def test_bad_rows_are_said(tmp_path: Path) -> None:
    files = {**mednli.EXAMPLE.files, "mli_test_v1.jsonl": '{"pairID": 1}\n\n{"gold_label": \n'}
    del files["made-1.0/mli_test_v1.jsonl"]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    _, problems = read(tmp_path, ".")
    assert [(p.position, p.rule) for p in problems] == [
        ("mli_test_v1.jsonl:1", "bad_row"),
        ("mli_test_v1.jsonl:3", "bad_json"),
    ]
