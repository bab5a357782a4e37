"""MedNLI, what follows from sentences of clinical notes (Romanov, Shivade, EMNLP 2018); licensed by PhysioNet.

JSON lines in a zip or folder, with parses that are not read. Three hypotheses stand to each premise, so that a premise
is the document: no split may tear it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from medtrain.data import archive, jsonfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.records import Record, Split, Turn

LABELS = ("entailment", "neutral", "contradiction")
_ROW = '{"gold_label": "%s", "pairID": "%s", "sentence1": "He was \\ntold to rest. ", "sentence2": "%s"}\n'
EXAMPLE = Example(
    {
        "made-1.0/mli_train_v1.jsonl": _ROW % ("entailment", "1", "He rests.") + _ROW % ("neutral", "2", "He is old."),
        "made-1.0/mli_dev_v1.jsonl": _ROW % ("contradiction", "3", "He was told to run."),
        "made-1.0/mli_test_v1.jsonl": _ROW % ("-", "4", "Nobody agreed."),
    },
    records=3,
)


class Config(SourceConfig):
    """The zip as PhysioNet gives it, or the folder that it holds."""

    files: dict[Split, str] = Field(
        {"train": "mli_train_v1.jsonl", "validation": "mli_dev_v1.jsonl", "test": "mli_test_v1.jsonl"}
    )
    """Split -> file name, in any folder below path."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each file.

    Raises:
        DataError: a file is absent or a Git LFS pointer, or the zip is damaged or unsafe.
    """
    path = locate(config, root)
    return [unit for split, name in config.files.items() for unit in archive.units(path, config.label, split, name)]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each pair with a label that the annotators agreed on."""
    for item in archive.contents(unit, config.files[unit.split]):
        if isinstance(item, Problem):
            yield item
            continue
        name, content = item
        for row in jsonfiles.line_rows(content.split(b"\n"), name):
            yield row if isinstance(row, Problem) else _record(row, unit, config)


def _record(row: jsonfiles.Row, unit: Unit, config: Config) -> Record | Problem:
    fields = [row.value.get(name) for name in ("pairID", "gold_label", "sentence1", "sentence2")]
    if not all(isinstance(value, str) and value.strip() for value in fields):
        return Problem(row.position, "bad_row", "needs pairID, gold_label, sentence1 and sentence2 as strings")
    pair, label, *sentences = (" ".join(str(value).split()) for value in fields)
    if label not in LABELS:
        return Problem(row.position, "unknown_label", f"the label is none of {', '.join(LABELS)}", pair)
    premise = hashlib.blake2b(sentences[0].encode(), digest_size=8).hexdigest()
    return Record(
        id=f"{config.label}:{pair}",
        document_id=f"{config.label}:{premise}",
        source=config.label,
        task="choice",
        category="NLI",
        language="en",
        split=unit.split,
        # Premise and hypothesis, a line each: naming them would be wording.
        turns=(Turn("user", context="\n".join(sentences)), Turn("assistant", trained=True)),
        gold={"label": label, "label_set": list(LABELS)},
    )
