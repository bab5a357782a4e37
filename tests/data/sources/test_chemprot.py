"""ChemProt: pairs of a sentence together, and the published files to the last pair."""

from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem, Unit
from medtrain.data.sources import chemprot
from medtrain.records import Record


def test_pairs_of_one_sentence_make_one_record(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text(
        chemprot.EXAMPLE.files["train.txt"] * 2
        + '{"text": "[[ A1 ]] and [[ A2 ]] block << P1 >>.", "label": "INHIBITOR"}\n'
        + '{"text": "[[ A1 ]] blocks << P1 >> and P2.", "label": "LIKES"}\n'
        + '{"text": "[[ A1 ]] blocks << P1 >> and P2.", "label": ["INHIBITOR"]}\n'
    )
    record, *problems = sorted(
        chemprot.read(Unit(str(path), "train.txt"), chemprot.Config(source="chemprot", path=".")),
        key=lambda item: isinstance(item, Problem),
    )
    assert isinstance(record, Record)
    assert record.turns[0].context == "A1 blocks P1 and P2."
    assert record.gold is not None
    assert [(r["type"], r["head"], r["tail"]) for r in record.gold["relations"]] == [
        ("INHIBITOR", "A1", "P1"),
        ("INHIBITOR", "A1", "P2"),
    ]
    rules = Counter(problem.rule for problem in problems if isinstance(problem, Problem))
    assert rules == {"repeated_pair": 2, "bad_marks": 1, "bad_row": 2}


def test_published_files_to_the_last_pair(shared: Path) -> None:
    config = chemprot.Config(source="chemprot", path="data/chemprot/scibert_jsonl")
    pairs: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    for unit in chemprot.units(config, shared):
        for item in chemprot.read(unit, config):
            if isinstance(item, Problem):
                assert item.rule == "repeated_pair"
                pairs[unit.split] += 1
            else:
                sentences[unit.split] += 1
                pairs[unit.split] += len((item.gold or {})["relations"])
    assert pairs == {"train": 4169, "validation": 2427, "test": 3469}
    assert sentences == {"train": 1653, "validation": 910, "test": 1397}
