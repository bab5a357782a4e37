"""DDI-2013: inclusive ends, entities in pieces, which folder serves which task, the published zip to the last pair."""

from collections import Counter
from pathlib import Path

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import ddi2013
from medtrain.data.stage import source_config
from medtrain.records import Record

ZIP = "data/ddi2013/DDICorpus-2013.zip"


def read(root: Path, path: str, task: str) -> tuple[list[Record], list[Problem]]:
    config = source_config({"source": "ddi2013", "path": path, "task": task})
    assert isinstance(config, ddi2013.Config)
    items = [item for unit in ddi2013.units(config, root) for item in ddi2013.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name, text in ddi2013.EXAMPLE.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, newline="")
    (tmp_path / "DDICorpus/Train/.DS_Store").write_text("")
    return tmp_path


def test_sentences_with_their_relations(made: Path) -> None:
    records, problems = read(made, ".", "relations")
    assert [(r.id, r.document_id, r.split) for r in records] == [
        ("ddi2013:D.d2.s0", "ddi:D.d2", "test"),
        ("ddi2013:D.d1.s0", "ddi:D.d1", "train"),
    ]
    assert records[0].turns[0].context == "Do not mix A or B acid."
    assert records[0].gold is not None
    assert records[0].gold["relations"] == [{"type": "advise", "head": "A acid", "tail": "B acid"}]
    assert [(p.position, p.rule) for p in problems] == [
        ("DDICorpus/Test/Test for DrugNER task/MedLine/3.xml", "other_task")
    ]


def test_documents_with_their_entities(made: Path) -> None:
    records, problems = read(made, "DDICorpus", "ner")
    assert [(r.document_id, r.split) for r in records] == [("ddi:D.d3", "test"), ("ddi:D.d1", "train")]
    assert [p.rule for p in problems] == ["other_task"]
    record = records[1]
    assert record.turns[0].context == "Do not mix A or B acid. Take B."
    assert record.gold is not None
    assert record.gold["entities"] == [
        {"type": "drug", "text": "A acid", "start": None, "end": None},
        {"type": "brand", "text": "B acid", "start": 16, "end": 22},
        {"type": "drug", "text": "B", "start": 29, "end": 30},
    ]
    assert record.meta == {"discontinuous": [{"type": "drug", "text": "A acid", "pieces": [[11, 12], [18, 22]]}]}


def test_what_does_not_hold_is_left_out_and_said(tmp_path: Path) -> None:
    entities = [
        ("0", "0-0", "drug", "A"),
        ("1", "2-3", "drug", "B"),
        ("2", "4-4", "drog", "C"),
        ("3", "x", "drug", "C"),
    ]
    entity = '<entity id="e{}" charOffset="{}" type="{}" text="{}"/>'
    pair = '<pair id="{}" e1="e0" e2="{}" ddi="true" {}/>'
    body = "".join(entity.format(*e) for e in entities)
    for id, other, kind in (("p0", "e1", 'type="int"'), ("p1", "e1", ""), ("p2", "e1", 'type="int"'), ("p3", "e9", "")):
        body += pair.format(id, other, kind)
    (tmp_path / "Train").mkdir()
    content = f'<document id="d"><sentence id="s" text="A B C">{body}</sentence></document>'
    (tmp_path / "Train/1.xml").write_text(content)
    (tmp_path / "Train/2.xml").write_text('<document id="d"><sentence id="s"/></document>')
    (tmp_path / "Train/3.xml").write_text("<document>")
    (tmp_path / "4.xml").write_text("<document/>")
    records, problems = read(tmp_path, ".", "relations")
    assert [(r.gold or {})["relations"] for r in records] == [[{"type": "int", "head": "A", "tail": "B"}]]
    assert [(p.rule, p.id) for p in problems] == [
        ("no_split", ""),
        ("bad_entity", "e2"),
        ("bad_entity", "e3"),
        ("bad_pair", "p1"),
        ("repeated_pair", "p2"),
        ("bad_pair", "p3"),
        ("bad_xml", ""),
    ]
    records, problems = read(tmp_path, ".", "ner")
    assert [len((r.gold or {})["entities"]) for r in records] == [1]
    assert Counter(p.rule for p in problems) == {
        "no_split": 1, "bad_entity": 2, "offset_mismatch": 1, "no_text": 1, "bad_xml": 1
    }  # fmt: skip


def test_published_pairs_to_the_last(shared: Path) -> None:
    records, problems = read(shared, ZIP, "relations")
    sentences: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for record in records:
        sentences[record.split] += 1
        for relation in (record.gold or {})["relations"]:
            pairs[record.split, relation["type"]] += 1
    assert sentences == {"train": 3789, "test": 790}
    assert [pairs["train", kind] for kind in ddi2013.RELATIONS] == [1303, 1680, 822, 188]
    repeated = Counter(p.detail.partition(":")[0] for p in problems if p.rule == "repeated_pair")
    counts = [pairs["train", kind] + pairs["test", kind] + repeated[kind] for kind in ddi2013.RELATIONS]
    assert counts == [1319 + 302, 1687 + 360, 826 + 221, 188 + 96]
    assert Counter(p.rule for p in problems) == {"other_task": 112, "repeated_pair": 31, "bad_pair": 1}
    assert [p.id for p in problems if p.rule == "bad_pair"] == ["DDI-DrugBank.d236.s29.p0"]
    documents = {split: {r.document_id for r in records if r.split == split} for split in sentences}
    assert not documents["train"] & documents["test"]


def test_published_entities_to_the_last(shared: Path) -> None:
    records, problems = read(shared, ZIP, "ner")
    assert Counter(r.split for r in records) == {"train": 714, "test": 112}
    entities: Counter[str] = Counter()
    for record in records:
        for entity in (record.gold or {})["entities"]:
            entities[record.split] += 1
            whole = record.turns[0].context[entity["start"] : entity["end"]] == entity["text"]
            assert whole if entity["start"] is not None else entity["end"] is None
    assert entities == {"train": 14765 - 1, "test": 686}
    assert sum(len(r.meta.get("discontinuous", [])) for r in records) == 38 - 1 + 2
    # The one whose offsets are off by one.
    assert [(p.rule, p.id) for p in problems if p.rule != "other_task"] == [
        ("offset_mismatch", "DDI-DrugBank.d216.s16.e2")
    ]
