"""CoNLL-2003: IOB1 and IOB2, both document marks, offsets, the stand-in file to the last sentence."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import conll03
from medtrain.records import Record


def read(root: Path, path: str, file: str, **settings: Any) -> tuple[list[Record], list[Problem]]:
    config = conll03.Config(source="conll03", path=path, files={"train": file}, **settings)
    items = [item for unit in conll03.units(config, root) for item in conll03.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("I-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("I-PER B-PER I-PER I-LOC", [("PER", 0, 1), ("PER", 1, 3), ("LOC", 3, 4)]),
        ("O I-MISC B-MISC", [("MISC", 1, 2), ("MISC", 2, 3)]),
        ("B-ORG O I-ORG", [("ORG", 0, 1), ("ORG", 2, 3)]),
        ("", []),
    ],
)
def test_both_ways_of_tagging(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert conll03.spans(tags.split()) == spans


def test_a_document_has_its_sentences_as_lines(tmp_path: Path) -> None:
    (tmp_path / "eng.train").write_text(conll03.EXAMPLE.files["eng.train"])
    (first, second), problems = read(tmp_path, ".", "eng.train")
    assert problems == []
    assert [first.id, second.id] == ["conll03:eng.train:document-1", "conll03:eng.train:document-2"]
    assert first.turns[0].context == "Ann Lee met Bob Eve\nIn Paris"
    assert first.gold == {
        "entities": [
            {"type": "Person", "text": "Ann Lee", "start": 0, "end": 7},
            {"type": "Person", "text": "Bob", "start": 12, "end": 15},
            {"type": "Person", "text": "Eve", "start": 16, "end": 19},
            {"type": "Location", "text": "Paris", "start": 23, "end": 28},
        ],
        "types": ["Person", "Location", "Organization", "Miscellaneous"],
    }
    assert second.turns[0].context == "Rain"
    sentences, _ = read(tmp_path, ".", "eng.train", unit="sentence", types={"LOC": "LOC"})
    assert [(r.id, r.document_id) for r in sentences] == [
        ("conll03:eng.train:3", first.document_id),
        ("conll03:eng.train:9", first.document_id),
        ("conll03:eng.train:14", second.document_id),
    ]
    assert (sentences[1].gold or {})["entities"] == [{"type": "LOC", "text": "Paris", "start": 3, "end": 8}]


def test_bad_lines_cost_a_sentence_and_sentences_need_no_document(tmp_path: Path) -> None:
    text = "a O\nb I-X\n\n\nc O\nd\n\ne I\n\ng O\n-DOCSTART-\nh B-PER\n-DOCSTART- (7)\n\ni I-PER\r\n"
    (tmp_path / "f").write_text(text)
    records, problems = read(tmp_path, ".", "f")
    assert [(r.id, r.turns[0].context) for r in records] == [
        ("conll03:f:1", "a b"),
        ("conll03:f:10", "g"),
        ("conll03:f:document-1", "h"),
        ("conll03:f:7", "i"),
    ]
    assert [(p.position, p.rule, p.action) for p in problems] == [
        ("f:2", "unknown_type", "changed"),
        ("f:6", "bad_line", "dropped"),
        ("f:8", "bad_line", "dropped"),
    ]


def test_stand_in_to_the_last_sentence(shared: Path) -> None:
    place = ("data/bc5cdr/scibert_conll", "test.txt")
    records, problems = read(shared, *place, types={"Entity": "Entity"})
    assert problems == []
    assert len({r.id for r in records}) == len(records) == 500
    assert sum(r.turns[0].context.count("\n") + 1 for r in records) == 4139
    entities = [(r.turns[0].context, entity) for r in records for entity in (r.gold or {})["entities"]]
    assert all(context[e["start"] : e["end"]] == e["text"] for context, e in entities)
    sentences, _ = read(shared, *place, types={"Entity": "Entity"}, unit="sentence")
    assert len(sentences) == 4139
    assert Counter(r.document_id for r in sentences).keys() == {r.id for r in records}
    # 2246 begin at B-, and 7416 at an I- that IOB2 would not allow.
    assert sum(len((r.gold or {})["entities"]) for r in sentences) == len(entities) == 2246 + 7416
