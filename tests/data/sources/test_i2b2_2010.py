"""i2b2 2010: places, tars as they are licensed, what does not fit, relations by line."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import i2b2_2010
from medtrain.errors import DataError
from medtrain.records import Record

TRAIN = "concept_assertion_relation_training_data"


def read(root: Path, **settings: Any) -> tuple[list[Record], list[Problem]]:
    config = i2b2_2010.Config(source="i2b2_2010", path=".", **settings)
    items = [item for unit in i2b2_2010.units(config, root) for item in i2b2_2010.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, newline="")


def pack(root: Path, files: dict[str, str]) -> None:
    """Each first folder of the files as a tar beside the others, under a name with `./` as tar writes it."""
    for folder in {name.partition("/")[0] for name in files}:
        with tarfile.open(root / f"{folder}.tar.gz", "w:gz") as file:
            for name, text in files.items():
                if name.startswith(f"{folder}/"):
                    info = tarfile.TarInfo(f"./{name}")
                    info.size = len(text.encode())
                    file.addfile(info, io.BytesIO(text.encode()))


def one(root: Path, note: str, con: str, rel: str = "", **settings: Any) -> tuple[list[Record], list[Problem]]:
    """What one training note gives."""
    write(root, {f"{TRAIN}/txt/n.txt": note, f"{TRAIN}/concept/n.con": con, f"{TRAIN}/rel/n.rel": rel})
    return read(root, files={"train": [TRAIN]}, **settings)


def test_tars_and_folders_give_the_same_notes(tmp_path: Path) -> None:
    for place, put in (("tars", pack), ("folders", write)):
        (tmp_path / place).mkdir()
        put(tmp_path / place, i2b2_2010.EXAMPLE.files)
    for task in ("ner", "relations"):
        assert read(tmp_path / "tars", task=task)[0] == read(tmp_path / "folders", task=task)[0]
    records, problems = read(tmp_path / "tars")
    assert [(r.id, r.document_id, r.split) for r in records] == [
        ("i2b2_2010:record-1", "i2b2_2010:record-1", "train"),
        ("i2b2_2010:0001", "i2b2_2010:0001", "test"),
    ]
    text = i2b2_2010.EXAMPLE.files["test_data/0001.txt"]
    assert {r.turns[0].context for r in records} == {text}
    assert (records[0].gold or {})["entities"] == [
        {"type": "problem", "text": "Chest Pain", "start": text.index("Chest"), "end": text.index(" fell")},
        {"type": "treatment", "text": "Drug\nA", "start": text.index("Drug"), "end": text.index(" .")},
    ]
    assert [p.rule for p in problems] == ["repeated_concept"] * 2


def test_places_are_checked_against_the_text(tmp_path: Path) -> None:
    lines = [
        'c="the "old" pain" 1:0 1:2||t="problem"',
        'c="ct" 2:1 2:1||t="test"',
        'c="ct" 2:0 2:0||t="test"',
        'c="ct" 9:0 9:0||t="test"',
        'c="ct" 0:0 0:0||t="test"',
        'c="ct" 2:0 2:7||t="test"',
        'c="ct" 2:0 1:0||t="test"',
        'c="ct" 2:1 2:1||t="person"',
        "ct",
    ]
    (record,), problems = one(tmp_path, 'The  "OLD"\tpain\r\n甲 CT', "\r\n".join([*lines, ""]))
    entities = (record.gold or {})["entities"]
    assert [(e["text"], e["type"]) for e in entities] == [('The  "OLD"\tpain', "problem"), ("CT", "test")]
    assert all(record.turns[0].context[e["start"] : e["end"]] == e["text"] for e in entities)
    assert [(p.position.rpartition(":")[2], p.rule) for p in problems] == [
        *((str(n), "place_mismatch") for n in range(3, 8)),
        ("8", "bad_concept"),
        ("9", "bad_concept"),
    ]
    assert {p.id for p in problems} == {"n"}


def test_relations_stand_by_line(tmp_path: Path) -> None:
    con = ['c="a" 1:0 1:0||t="test"', 'c="b" 1:1 1:1||t="problem"', 'c="c" 2:0 2:0||t="problem"']
    con += ['c="d" 3:0 3:0||t="problem"', 'c="e" 3:1 3:1||t="problem"']
    rel = [
        'c="a" 1:0 1:0||r="TeRP"||c="b" 1:1 1:1',
        'c="a" 1:0 1:0||r="TeRP"||c="c" 2:0 2:0',
        'c="a" 1:0 1:0||r="TeRP"||c="x" 1:1 1:1',
        'c="a" 1:0 1:0||r="NONE"||c="b" 1:1 1:1',
    ]
    records, problems = one(tmp_path, "A B .\nC .\nD E .\n", "\n".join(con), "\n".join(rel), task="relations")
    assert [(r.id, r.turns[0].context, (r.gold or {})["relations"]) for r in records] == [
        ("i2b2_2010:n:1", "A B .", [{"type": "TeRP", "head": "A", "tail": "B"}]),
        ("i2b2_2010:n:3", "D E .", []),
    ]
    assert {r.document_id for r in records} == {"i2b2_2010:n"}
    assert [p.rule for p in problems] == ["across_lines", "bad_relation", "bad_relation"]


def test_notes_without_their_files_are_said(tmp_path: Path) -> None:
    write(tmp_path, {f"{TRAIN}/a/n.txt": "x", f"{TRAIN}/b/n.txt": "y", f"{TRAIN}/n.con": "", f"{TRAIN}/m.txt": "z"})
    records, problems = read(tmp_path, files={"train": [TRAIN]})
    assert [(r.id, r.turns[0].context) for r in records] == [("i2b2_2010:n", "x")]
    assert sorted((p.position, p.rule) for p in problems) == [("b/n.txt", "repeated_note"), ("m.txt", "no_note")]
    with pytest.raises(DataError, match="no folder or archive of this name"):
        read(tmp_path)
    write(tmp_path, {"test_data/n.con": ""})
    with pytest.raises(DataError, match=r"no \.txt note"):
        read(tmp_path, files={"test": ["test_data"]})
