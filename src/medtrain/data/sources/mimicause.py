"""MIMICause: which of two marked concepts of a clinical note causes, enables, prevents or hinders which.

(Khetan et al., ACL Findings 2022; licensed with n2c2.) CSV of E1, E2, Text and Label in a zip or folder; Text marks the
two concepts as <e1>…</e1> and <e2>…</e2>, which say what the question is about and are kept.
"""

import csv
import hashlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from medtrain.data import archive
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.data.text import decode
from medtrain.records import Record, Split, Turn

LABELS = (
    "Cause(E1,E2)",
    "Cause(E2,E1)",
    "Enable(E1,E2)",
    "Enable(E2,E1)",
    "Prevent(E1,E2)",
    "Prevent(E2,E1)",
    "Hinder(E1,E2)",
    "Hinder(E2,E1)",
    "Other",
)
"""A label's place is its number in the files."""
COLUMNS = ("E1", "E2", "Text", "Label")
_MARKS = re.compile(r"</?e[12]>")
EXAMPLE = Example(
    {
        "made/rows.csv": "E1,E2,Text,Label\r\n"
        'drug,rash,"A <e1>drug</e1>, new,\ngave a <e2>rash</e2>.",0\r\n'
        'rest,pain,"No <e2>pain</e2> since ""<e1>rest</e1>"".",4\r\n'
        "drug,rash,No marks.,8\r\n"
    },
    records=2,
)


class Config(SourceConfig):
    """The zip or folder with the CSV file; it was published as one split, which is train unless `files` says else."""

    files: dict[Split, str] = Field({"train": ".csv"})
    """Split -> how the names of its files end, in any folder below path (e.g. train.csv, dev.csv, test.csv)."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each split.

    Raises:
        DataError: a split has no file or a Git LFS pointer, or the zip is damaged or unsafe.
    """
    path = locate(config, root)
    return [unit for split, name in config.files.items() for unit in archive.units(path, config.label, split, name)]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row."""
    for item in archive.contents(unit, config.files[unit.split]):
        if isinstance(item, Problem):
            yield item
            continue
        name, content = item
        text, problems = decode(content, name)
        yield from problems
        csv.field_size_limit(sys.maxsize)
        rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        if not set(COLUMNS) <= set(rows.fieldnames or ()):
            yield Problem(name, "bad_columns", f"needs the columns {', '.join(COLUMNS)}")
            continue
        try:
            for number, row in enumerate(rows, 1):
                yield _record([row[column] or "" for column in COLUMNS], f"{name}:{number}", unit, config)
        except csv.Error as error:
            yield Problem(name, "bad_csv", f"{error}; the rest of the file is not read")


def label_of(value: str) -> str | None:
    """A label by its number or name."""
    value = "".join(value.split())
    if value.removesuffix(".0") in map(str, range(len(LABELS))):
        return LABELS[int(value.removesuffix(".0"))]
    return value if value in LABELS else None


def _record(row: list[str], position: str, unit: Unit, config: Config) -> Record | Problem:
    first, second, text, value = row
    label = label_of(value)
    if label is None:
        return Problem(position, "unknown_label", "the label is none of the nine")
    if sorted(_MARKS.findall(text)) != ["</e1>", "</e2>", "<e1>", "<e2>"]:
        return Problem(position, "bad_marks", "one <e1>…</e1> and one <e2>…</e2> are needed")
    # One passage is asked about with several pairs marked.
    passage = hashlib.blake2b(" ".join(_MARKS.sub("", text).split()).encode(), digest_size=8).hexdigest()
    return Record(
        id=f"{config.label}:{position}",
        document_id=f"{config.label}:{passage}",
        source=config.label,
        task="choice",
        category="RE",
        language="en",
        split=unit.split,
        turns=(Turn("user", context=text.strip()), Turn("assistant", trained=True)),
        gold={"label": label, "label_set": list(LABELS)},
        meta={"e1": first, "e2": second},
    )
