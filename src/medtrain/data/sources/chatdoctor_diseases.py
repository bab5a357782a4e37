"""ChatDoctor's table of diseases, `format_dataset.csv`: one row a disease, symptoms, tests and medications as lists.

Lists are Python literals. The column `reason` describes the disease; in some rows it holds a scrap of a list of drugs
(` thiamine, `) or the head of a disambiguation page (`HCM may refer to:`), which are dropped, and in others the bytes
of UTF-8 written out as `\\xc9`.
"""

import ast
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import decode, mend
from medtrain.records import Record, Split, Turn

LISTS = {"Symptom": "symptoms", "TestsAndProcedures": "tests and procedures", "commonMedications": "common medications"}
TEXT, DESCRIPTION = "reason", "description"
FILE = "format_dataset.csv"
CELL_CHARACTERS = 2**20
_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")
EXAMPLE = Example(
    {
        FILE: "idx,disease,Symptom,reason,TestsAndProcedures,commonMedications\n"
        "0,Made fever,\"['Heat', 'Chills']\",\"Made fever is made, and warm. \",['Blood test'],\"['Water', 'Rest']\"\n"
        "1,Made cough,['Cough'],\" water, \",[],['Honey']\n"
    },
    records=6,
)


class Config(SourceConfig):
    """The table, or the folder that it lies in under its published name; a record for each disease and column."""

    split: Split = "train"
    """Which split its rows belong to; the corpus has none."""


def units(config: Config, root: Path) -> list[Unit]:
    """The file as one unit.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    path = locate(config, root)
    path = path / FILE if path.is_dir() else path
    return [Unit(str(check_file(path, config.label)), path.name, config.split)]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """The attributes of each disease that have a value."""
    text, problems = decode(Path(unit.path).read_bytes(), unit.name)
    yield from problems
    csv.field_size_limit(CELL_CHARACTERS)
    table = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        missing = {"idx", "disease", TEXT, *LISTS} - set(table.fieldnames or ())
        if missing:
            yield Problem(unit.name, "bad_header", f"columns {', '.join(sorted(missing))} are missing")
            return
        for row in table:
            yield from _records(row, f"{unit.name}:{table.line_num}", unit, config)
    except csv.Error:
        yield Problem(f"{unit.name}:{table.line_num}", "bad_csv", "the table breaks off in a broken cell")


def _records(row: dict[str, str], position: str, unit: Unit, config: Config) -> Iterator[Record | Problem]:
    number, disease = row["idx"].strip(), row["disease"].strip()
    if not number or not disease or None in row:
        yield Problem(position, "bad_row", "needs idx, disease and as many cells as columns", number)
        return
    for column, attribute in {**LISTS, TEXT: DESCRIPTION}.items():
        id = f"{number}/{column}"
        if column == TEXT and _BYTES.search(row[column]):
            yield Problem(position, "byte_escapes", "bytes written out as \\x… made characters", id, "changed")
        values = described(row[column]) if column == TEXT else listed(row[column])
        if isinstance(values, str):
            yield Problem(position, "bad_value", values, id)
        elif not values:
            yield Problem(position, "no_value", f"{column} is empty", id)
        else:
            yield Record(
                id=f"{config.label}:{id}",
                document_id=f"{config.label}:{number}",
                source=config.label,
                task="attribute",
                category="EA",
                language="en",
                split=unit.split,
                turns=(Turn("user", query=disease), Turn("assistant", trained=True)),
                gold={"attribute": attribute, "values": values},
            )


def described(cell: str) -> list[str] | str:
    """The description as the one value there is, bytes and quotes as characters; or what is wrong with it."""
    text = _BYTES.sub(lambda run: bytes.fromhex(run[0].replace("\\x", "")).decode("utf-8", "replace"), cell)
    text = mend(text.replace("\\'", "'")).strip()
    if text.endswith((",", ":")):
        return "a scrap and no description"
    return [text] if text else []


def listed(cell: str) -> list[str] | str:
    """The texts of a list written as a Python literal, each once; or what is wrong with it."""
    try:
        found = ast.literal_eval(cell)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return "needs a list of texts as a Python literal"
    return list(dict.fromkeys(mend(item).strip() for item in found if item.strip()))
