"""UMLS Rich Release Format: lines of `|`-separated fields with a `|` behind the last one, no header and no quoting.

The tables have tens of millions of lines: rows stay bytes until somebody needs their text, and only the columns asked
for are handed on.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.text import BOM, decode

COLUMNS = {
    "MRCONSO": "CUI,LAT,TS,LUI,STT,SUI,ISPREF,AUI,SAUI,SCUI,SDUI,SAB,TTY,CODE,STR,SRL,SUPPRESS,CVF",
    "MRSTY": "CUI,TUI,STN,STY,ATUI,CVF",
    "MRREL": "CUI1,AUI1,STYPE1,REL,CUI2,AUI2,STYPE2,RELA,RUI,SRUI,SAB,SL,RG,DIR,SUPPRESS,CVF",
    "MRDEF": "CUI,AUI,ATUI,SATUI,SAB,DEF,SUPPRESS,CVF",
}
"""The documented order of each table's columns."""
BAD_ROWS = 1000
"""After so many lines of a wrong width a file is taken for something else, and the rest of it is not read."""
_FILE, _FORMAT, _WIDTH = 0, 2, 6
Orders = Mapping[str, Sequence[str]]
"""Table -> its columns."""


def orders(mrfiles: Path | None) -> tuple[Orders, list[Problem]]:
    """Each table's columns as MRFILES.RRF lists them, else in the documented order.

    A list that lacks a documented column, or has one twice, is a problem, and the documented order is read.
    """
    found = {table: columns.split(",") for table, columns in COLUMNS.items()}
    problems: list[Problem] = []
    if mrfiles is None:
        return found, problems
    text, problems = decode(mrfiles.read_bytes(), mrfiles.name)
    for line in text.splitlines():
        fields = line.split("|")
        table = fields[_FILE].removesuffix(".RRF")
        if table not in found or len(fields) < _WIDTH:
            continue
        listed = fields[_FORMAT].split(",")
        if len(set(listed)) == len(listed) and set(found[table]) <= set(listed):
            found[table] = listed
        else:
            detail = f"the columns of {table} are damaged or incomplete; the documented order is read"
            problems.append(Problem(mrfiles.name, "bad_columns", detail, action="changed"))
    return found, problems


def rows(path: Path, order: Orders, wanted: Sequence[str]) -> Iterator[tuple[int, tuple[bytes, ...]] | Problem]:
    """Each line of a table as its number and the `wanted` columns (two or more); one of a wrong width is a problem."""
    columns = order[path.stem]
    take = itemgetter(*(columns.index(name) for name in wanted))
    width, bad = len(columns) + 1, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(BOM)
            fields = line.rstrip(b"\r\n").split(b"|")
            if len(fields) == width:
                yield number, take(fields)
                continue
            bad += 1
            position = f"{path.name}:{number}"
            if bad > BAD_ROWS:
                detail = f"more than {BAD_ROWS} lines of a wrong width: the rest of the file is not read"
                yield Problem(position, "not_rrf", detail)
                return
            yield Problem(position, "bad_row", f"{len(fields) - 1} fields, {width - 1} are needed")
