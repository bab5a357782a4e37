"""MIMIC-III's tables: cells of many lines, damage, which note is a stay's, frequencies, times."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from medtrain.data import mimic3
from medtrain.data.source import Problem, Unit
from medtrain.errors import DataError


def unit(folder: Path) -> Unit:
    [found] = mimic3.units(mimic3.StaysConfig(source="mimic3", path="."), folder)
    return found


def rows(folder: Path, columns: Sequence[str] = ("HADM_ID", "TEXT")) -> tuple[list[mimic3.Row], list[Problem]]:
    items = list(mimic3.rows(unit(folder), "NOTEEVENTS", columns))
    return [i for i in items if not isinstance(i, Problem)], [i for i in items if isinstance(i, Problem)]


def notes(folder: Path, kind: mimic3.Kind = "discharge") -> tuple[list[mimic3.Note], list[Problem]]:
    problems: list[Problem] = []
    choosing = mimic3.choose(unit(folder), kind)
    while True:
        try:
            problems.append(next(choosing))
        except StopIteration as end:
            chosen = end.value
            break
    return list(mimic3.notes(unit(folder), kind, chosen)), problems


@pytest.mark.parametrize("packed", [False, True])
def test_cells_run_over_lines_and_keep_quotes_and_marks(mimic: Any, packed: bool) -> None:
    text = 'Seen on [**2101-1-5**], "stable",\n\n  by Dr. [**Last Name (STitle) 12**] ,\nthen home.'
    mimic.note("1", "11", text)
    mimic.note("2", "12", text.replace("\n", "\r\n"))
    found, problems = notes(mimic.write(packed=packed))
    assert [(n.position, n.stay, n.patient, n.text) for n in found] == [
        ("NOTEEVENTS.csv:2", "11", "1", text),
        ("NOTEEVENTS.csv:6", "12", "2", text),
    ]
    assert problems == []


def test_the_plain_table_goes_before_the_packed_one_and_none_is_said(mimic: Any) -> None:
    mimic.write(packed=True)
    mimic.note("1", "11", "x")
    assert len(notes(mimic.write())[0]) == 1
    for path in mimic.folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"neither NOTEEVENTS\.csv nor NOTEEVENTS\.csv\.gz"):
        unit(mimic.folder)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "NOTEEVENTS.csv"
    path.write_bytes(b"\xef\xbb\xbftext,hadm_id,x\n a ,1,2\n")
    assert rows(tmp_path) == ([(2, ("1", "a"))], [])
    path.write_text("ROW_ID,HADM_ID\n1,2\n")
    assert [(p.rule, p.detail) for p in rows(tmp_path)[1]] == [("no_columns", "the header lacks TEXT")]


def test_a_long_cell_is_read_and_the_limit_is_as_before(mimic: Any) -> None:
    before = csv.field_size_limit()
    mimic.note("1", "11", "long " * 200_000)
    reading = mimic3.rows(unit(mimic.write()), "NOTEEVENTS", ("HADM_ID", "TEXT"))
    item = next(reading)
    assert csv.field_size_limit() == before
    assert not isinstance(item, Problem)
    assert len(item[1][1]) == 999_999


def test_a_missing_quote_costs_its_rows_and_not_the_rest(mimic: Any) -> None:
    for number in range(4):
        mimic.note(str(number), f"1{number}", f"first, {number}\nsecond, {number}")
    path = mimic.write() / "NOTEEVENTS.csv"
    lines = path.read_text().split("\n")
    assert lines[4].endswith('"')
    lines[4] = lines[4][:-1]
    path.write_text("\n".join(lines))
    found, problems = rows(mimic.folder)
    assert ("10", "first, 0\nsecond, 0") in [cells for _, cells in found]
    assert ("13", "first, 3\nsecond, 3") in [cells for _, cells in found]
    assert {p.rule for p in problems} == {"bad_csv", "bad_row"}


def test_a_cell_without_an_end_is_bounded(mimic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mimic.note("1", "11", "x")
    path = mimic.write() / "NOTEEVENTS.csv"
    path.write_text(path.read_text() + '2,2,12,,,,a,b,,,"never closed\n' + "line\n" * 100)
    monkeypatch.setattr(mimic3, "CELL_CHARACTERS", 50)
    found, problems = rows(mimic.folder)
    assert [cells for _, cells in found] == [("11", "x")]
    assert problems[0].rule == "bad_csv"
    assert "field limit" in problems[0].detail
    monkeypatch.undo()
    assert [p.rule for p in rows(mimic.folder)[1]] == ["bad_csv"]


def test_a_packed_table_that_breaks_off_is_said(mimic: Any) -> None:
    for number in range(3000):
        mimic.note(str(number), str(number), f"{number * 7919 % 3001} text")
    path = mimic.write(packed=True) / "NOTEEVENTS.csv.gz"
    path.write_bytes(path.read_bytes()[:-4000])
    found, problems = rows(mimic.folder)
    assert 0 < len(found) < 3000
    assert [p.rule for p in problems] == ["bad_gzip"]


def test_bad_bytes_are_mended(mimic: Any) -> None:
    mimic.note("1", "11", "caf@ # caf\u00e9")
    path = mimic.write() / "NOTEEVENTS.csv"
    path.write_bytes(path.read_bytes().replace(b"@", b"\xe9").replace(b"#", b"\0"))
    found, problems = rows(mimic.folder)
    assert found == [(2, ("11", "caf\ufffd   caf\u00e9"))]
    assert [(p.rule, p.action) for p in problems] == [("bad_characters", "changed")]


def test_one_note_of_a_stay(mimic: Any) -> None:
    mimic.note("1", "11", "late", CHARTDATE="2101-02-10")
    mimic.note("1", "11", "later on the same day", CHARTDATE="2101-02-10")
    mimic.note("1", "11", "early", CHARTDATE="2101-02-09")
    mimic.note("1", "11", "undated", CHARTDATE="")
    mimic.note("1", "11", "addendum", CHARTDATE="2101-03-01", DESCRIPTION="Addendum")
    mimic.note("1", "11", "nurse", CHARTDATE="2101-03-01", CATEGORY="Nursing")
    mimic.note("1", "11", "wrong", CHARTDATE="2101-03-01", ISERROR="1")
    mimic.note("1", "", "no stay")
    mimic.note("", "12", "no patient")
    mimic.note("1", "13", "  ")
    mimic.note("1", "", "a nurse's, out of hospital", CATEGORY="Nursing")
    found, problems = notes(mimic.write())
    assert [(n.stay, n.text) for n in found] == [("11", "later on the same day")]
    assert [(int(p.position.split(":")[1]) - 2, p.rule) for p in problems] == [
        (0, "other_note"),
        (2, "other_note"),
        (3, "other_note"),
        (6, "is_error"),
        (7, "no_stay"),
        (8, "no_stay"),
        (9, "empty_text"),
    ]


def test_the_first_admission_note_of_a_physician(mimic: Any) -> None:
    kind = {"CATEGORY": "Physician ", "DESCRIPTION": "Physician Resident Admission Note"}
    mimic.note("1", "11", "discharge")
    mimic.note("1", "11", "undated", CHARTDATE="", **kind)
    mimic.note("1", "11", "evening", CHARTTIME="2101-01-01 21:00:00", **kind)
    mimic.note("1", "11", "morning", CHARTTIME="2101-01-01 09:00:00", **kind)
    mimic.note("1", "11", "progress", **{**kind, "DESCRIPTION": "Physician Resident Progress Note"})
    found, problems = notes(mimic.write(), "admission")
    assert [n.text for n in found] == ["morning"]
    assert [p.rule for p in problems] == ["other_note", "other_note"]


def test_most_frequent_counts_stays_and_breaks_ties_by_name() -> None:
    names = {"1": {"b", "a"}, "2": {"b", "c"}, "3": {"c", "d"}}
    assert mimic3.most_frequent(names, 3) == ["b", "c", "a"]
    assert mimic3.most_frequent({}, 3) == []


def test_times() -> None:
    assert mimic3.time("2196-04-09 12:26:00") == datetime(2196, 4, 9, 12, 26)
    assert mimic3.time("2196-04-09") == datetime(2196, 4, 9)
    for text in ("", "yesterday", "2196-02-30 00:00:00", "2196-04-09 12:26:00+01:00"):
        assert mimic3.time(text) is None
