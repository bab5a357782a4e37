"""BC5CDR: both tasks on the made example, and the published files to the last mention."""

from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import bc5cdr
from medtrain.records import Record


def test_composites_keep_their_parts_beside_the_gold(tmp_path: Path) -> None:
    for name, text in bc5cdr.EXAMPLE.files.items():
        (tmp_path / name).write_text(text, newline="")
    config = bc5cdr.Config(source="bc5cdr", path=".")
    record = next(iter(bc5cdr.read(bc5cdr.units(config, tmp_path)[0], config)))
    assert isinstance(record, Record)
    assert record.gold is not None
    assert record.gold["types"] == ["Chemical", "Disease"]
    assert [e["text"] for e in record.gold["entities"]] == ["Drug A", "fever", "Fever"]
    assert record.meta == {"composites": [{"type": "Disease", "text": "fever", "parts": ["part one", "part two"]}]}


def test_published_files_to_the_last_mention(shared: Path) -> None:
    config = bc5cdr.Config(source="bc5cdr", path="data/bc5cdr/pubtator")
    mentions: Counter[tuple[str, str]] = Counter()
    documents: Counter[str] = Counter()
    for unit in bc5cdr.units(config, shared):
        for record in bc5cdr.read(unit, config):
            assert not isinstance(record, Problem), record
            documents[record.split] += 1
            text = record.turns[0].context
            for entity in (record.gold or {})["entities"]:
                assert text[entity["start"] : entity["end"]] == entity["text"]
                mentions[record.split, entity["type"]] += 1
    assert documents == {"train": 500, "validation": 500, "test": 500}
    chemicals, diseases = ([mentions[split, kind] for split in documents] for kind in ("Chemical", "Disease"))
    assert chemicals == [5203, 5347, 5385]
    assert diseases == [4182, 4244, 4424]


def test_published_relations_all_find_their_names(shared: Path) -> None:
    config = bc5cdr.Config(source="bc5cdr", name="cid", path="data/bc5cdr/pubtator", task="relations")
    counts: Counter[str] = Counter()
    for unit in bc5cdr.units(config, shared):
        for record in bc5cdr.read(unit, config):
            assert not isinstance(record, Problem), record
            assert record.id.startswith("cid:")
            counts[record.split] += len((record.gold or {})["relations"])
    # Of 1038, 1012 and 1066 pairs of ids, some share their names.
    assert counts == {"train": 1013, "validation": 982, "test": 1055}
