"""MIMIC-III (Johnson et al., Scientific Data 2016), `TABLE.csv` or, as published, `TABLE.csv.gz`: a note for each stay.

NOTEEVENTS has 4 GB and its notes run over many lines, so it is streamed twice: once to choose one note for each stay,
once to read the chosen ones. The other tables are streamed once and joined by HADM_ID, for stays with a note only.
"""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Literal, TextIO

from medtrain.data.source import Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import mend
from medtrain.errors import DataError
from medtrain.records import Split

NOTES = "NOTEEVENTS"
CELL_CHARACTERS = 2**24
"""A longer cell is one whose closing quote is missing; without a limit it would swallow the rest of the file."""
_NOTE_COLUMNS = ("SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "CATEGORY", "DESCRIPTION", "ISERROR", "TEXT")
Kind = Literal["discharge", "admission"]
Row = tuple[int, tuple[str, ...]]


class StaysConfig(SourceConfig):
    """The folder of the tables; a patient's stays share the document `mimic3:<SUBJECT_ID>`: no split tears them."""

    split: Split = "train"
    """Which split its rows belong to; the corpus has none."""


@dataclass(frozen=True, slots=True)
class Note:
    """The note that was chosen for a stay; de-identification marks stand as they are."""

    position: str
    stay: str
    patient: str
    text: str


def units(config: StaysConfig, root: Path, *tables: str) -> list[Unit]:
    """One unit, NOTEEVENTS and the tables joined to it: a stay's notes may stand anywhere in the file.

    Raises:
        DataError: a table is absent or empty.
    """
    folder = locate(config, root)
    notes, *others = (_table(folder, name, config.label) for name in (NOTES, *tables))
    return [Unit(str(notes), f"{NOTES}.csv", config.split, also=tuple(map(str, others)))]


def _table(folder: Path, name: str, label: str) -> Path:
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            return check_file(path, label)
    raise DataError(f"source {label}: {folder}: has neither {name}.csv nor {name}.csv.gz; check path")


def rows(unit: Unit, table: str, columns: Sequence[str]) -> Iterator[Row | Problem]:
    """The wanted columns (two or more) of each row, mended and without outer blanks, with the line that it begins on.

    A header without the columns, a row of another width than the header, broken quotes and damaged gzip are problems.
    """
    path = next(path for path in map(Path, (unit.path, *unit.also)) if path.name.split(".")[0] == table)
    name = f"{table}.csv"
    with _open(path) as file:
        take, width = None, 0
        for item in _cells(file, name):
            if isinstance(item, Problem):
                yield item
                continue
            line, cells = item
            if take is None:
                header = [cell.strip("\ufeff \t").upper() for cell in cells]
                missing = [column for column in columns if column not in header]
                if missing:
                    yield Problem(f"{name}:1", "no_columns", f"the header lacks {', '.join(missing)}")
                    return
                take, width = itemgetter(*map(header.index, columns)), len(header)
            elif len(cells) != width:
                yield Problem(f"{name}:{line}", "bad_row", f"{len(cells)} cells, the header has {width}")
            else:
                found = take(cells)
                values = tuple(map(_mended, found))
                if values != found:
                    detail = "bad bytes or NULs replaced"
                    yield Problem(f"{name}:{line}", "bad_characters", detail, action="changed")
                yield line, tuple(value.strip() for value in values)


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def _cells(file: TextIO, name: str) -> Iterator[tuple[int, list[str]] | Problem]:
    reader = csv.reader(file, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = _next(reader)
        except csv.Error as error:
            yield Problem(f"{name}:{line}", "bad_csv", f"{error}: read on at line {reader.line_num + 1}")
        except (OSError, EOFError, zlib.error) as error:
            yield Problem(f"{name}:{line}", "bad_gzip", f"{type(error).__name__}: the file breaks off here")
            return
        else:
            if cells is None:
                return
            if cells:
                yield line, cells


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    """A row, or None at the end; the limit is the whole process's, so it is raised for this one row only."""
    before = csv.field_size_limit(CELL_CHARACTERS)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def _mended(cell: str) -> str:
    return cell if cell.isascii() and "\0" not in cell else str(mend(cell))


def choose(unit: Unit, kind: Kind) -> Generator[Problem, None, dict[str, int]]:
    """Stay -> the line of its note: the last discharge summary, or the first admission note.

    The other notes of a stay, and those that are marked as an error or say no stay or patient, are problems.
    """
    last = kind == "discharge"
    undated = datetime.min if last else datetime.max
    found: dict[str, tuple[datetime, int]] = {}
    for item in _candidates(unit, kind):
        if isinstance(item, Problem):
            yield item
            continue
        line, (patient, stay, day, moment, _, _, error, text) = item
        position = f"{NOTES}.csv:{line}"
        if error == "1":
            yield Problem(position, "is_error", "a physician marked the note as an error")
        elif not stay or not patient:
            yield Problem(position, "no_stay", "HADM_ID or SUBJECT_ID is empty")
        elif not text:
            yield Problem(position, "empty_text", "the note has no text", stay)
        else:
            place = (time(moment) or time(day) or undated, line)
            first, second = sorted((found.get(stay, place), place))
            found[stay], other = (second, first) if last else (first, second)
            if first != second:
                yield Problem(f"{NOTES}.csv:{other[1]}", "other_note", "another note of the stay is taken", stay)
    return {stay: line for stay, (_, line) in found.items()}


def notes(unit: Unit, kind: Kind, chosen: Mapping[str, int]) -> Iterator[Note]:
    """The chosen notes in the order of the file, which is read as far as the last of them."""
    end = max(chosen.values(), default=0)
    for item in _candidates(unit, kind):
        if isinstance(item, Problem):
            continue  # `choose` told it
        line, (patient, stay, *_, text) = item
        if chosen.get(stay) == line:
            yield Note(f"{NOTES}.csv:{line}", stay, patient, text.replace("\r\n", "\n"))
        if line >= end:
            return


def _candidates(unit: Unit, kind: Kind) -> Iterator[Row | Problem]:
    """The notes of a kind. An addendum to a discharge summary is none; admission notes are among the physicians'."""
    for item in rows(unit, NOTES, _NOTE_COLUMNS):
        if isinstance(item, Problem):
            yield item
            continue
        category, description = item[1][4].casefold(), item[1][5].casefold()
        if kind == "discharge":
            wanted = category == "discharge summary" and description != "addendum"
        else:
            wanted = category == "physician" and "admission note" in description
        if wanted:
            yield item


def most_frequent(names: Mapping[str, Collection[str]], top: int) -> list[str]:
    """The `top` names that most stays have, the most frequent first; ties by name."""
    counts = Counter(name for found in names.values() for name in found)
    return sorted(counts, key=lambda name: (-counts[name], name))[:top]


def time(text: str) -> datetime | None:
    """A time as the tables write it; None where it is none. Dates are shifted by patient, into the next centuries."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is None else None
