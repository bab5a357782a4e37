"""Hallmarks of Cancer: label lines, official and drawn splits, the published files to the last document."""

from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem, SourceConfig
from medtrain.data.sources import hoc
from medtrain.records import Record

LINE = "< < NULL< Sustaining proliferative signaling--Receptors ANDInducing angiogenesis--< Made up--x"


def items(root: Path, **settings: object) -> list[Record | Problem]:
    config = hoc.Config.model_validate({"source": "hoc", **settings})
    assert isinstance(config, SourceConfig)
    return [item for unit in hoc.units(config, root) for item in hoc.read(unit, config)]


def test_label_lines() -> None:
    assert hoc.hallmarks(LINE) == (["inducing angiogenesis", "sustaining proliferative signaling"], 1)
    assert hoc.hallmarks("") == ([], 0)


def test_a_document_without_labels_or_file_is_dropped(tmp_path: Path) -> None:
    for name, text in hoc.EXAMPLE.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "text/13.txt").write_text("No labels here .")
    problems = [(item.id, item.rule) for item in items(tmp_path, path=".") if isinstance(item, Problem)]
    assert problems == [("12", "no_label"), ("13", "no_label_file")]


def test_published_files_with_official_ids(shared: Path) -> None:
    found = items(shared, path="data/hoc", split_ids="data/bids/benchmarks/[MLC]Hoc/datasets/full_set")
    records = [item for item in found if isinstance(item, Record)]
    assert Counter(r.split for r in records) == {"train": 1108, "validation": 157, "test": 315}
    assert Counter(item.rule for item in found if isinstance(item, Problem)) == {"no_label": 272}
    assert {label for r in records for label in (r.gold or {})["labels"]} == set(hoc.HALLMARKS)


def test_published_labels_equal_those_beside_the_ids(shared: Path) -> None:
    folder = shared / "data/bids/benchmarks/[MLC]Hoc/datasets/full_set"
    listed = {}
    for name in hoc.SPLITS:
        for line in (folder / name).read_text(encoding="utf-8").split("\n")[1:]:
            pmid, _, labels = line.rstrip("\r").split("\t") if line.strip() else ("", "", "")
            listed[pmid] = {label.strip().casefold() for label in labels.split(";")}
    records = [item for item in items(shared, path="data/hoc") if isinstance(item, Record)]
    assert len(records) == 1580
    pmids = {r.document_id.removeprefix("pmid:"): set((r.gold or {})["labels"]) for r in records}
    # Of these two documents the lists have more labels than the label files, which have none of that name.
    assert {pmid for pmid, labels in pmids.items() if labels != listed[pmid]} == {"20525204", "20720310"}


def test_drawn_splits_are_about_as_large_as_said(shared: Path) -> None:
    counts = Counter(item.split for item in items(shared, path="data/hoc") if isinstance(item, Record))
    assert 0.66 < counts["train"] / 1580 < 0.74
    assert 0.07 < counts["validation"] / 1580 < 0.13
