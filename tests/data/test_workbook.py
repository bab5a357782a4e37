"""Rows of a workbook: kinds of cells, places of cells, damage."""

import zipfile
from pathlib import Path

import pytest

from medtrain.data import workbook
from medtrain.data.source import Problem, Unit
from medtrain.errors import DataError

STRINGS = (
    '<x:sst xmlns:x="s"><x:si><x:t xml:space="preserve"> a_x000D_\n&amp;</x:t></x:si>'
    "<x:si><x:r><x:t>b</x:t></x:r><x:r><x:t>c</x:t></x:r><x:rPh><x:t>reading</x:t></x:rPh></x:si></x:sst>"
)
SHEET = (
    '<worksheet><sheetData><row r="2"><c r="A2" t="s"><v>0</v></c><c r="C2" t="s"><v>1</v></c>'
    '<c r="AMI2" t="s"><v>1</v></c></row>'
    '<row r="3"><c r="B3"><v>4.5</v></c><c t="inlineStr"><is><t>in</t></is></c></row>'
    '<row r="4"><c r="A4"/></row><row r="5"><c r="A5" t="s"><v>9</v></c><c r="B5" t="s"><v>x</v></c></row></sheetData>'
    "</worksheet>"
)


def book(folder: Path, parts: dict[str, str]) -> Path:
    path = folder / "book.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(name, text)
    return path


def rows(path: Path) -> list[workbook.Row | Problem]:
    return list(workbook.rows(Unit(str(path), path.name), 3))


def test_cells_of_every_kind_stand_in_their_columns(tmp_path: Path) -> None:
    path = book(tmp_path, {workbook.STRINGS: STRINGS, workbook.SHEET: SHEET})
    workbook.check(path, "made")
    first, second, problem = rows(path)
    assert first == workbook.Row("book.xlsx:2", (" a\n&", "", "bc"))
    assert second == workbook.Row("book.xlsx:3", ("", "4.5", "in"))
    assert isinstance(problem, Problem) and (problem.position, problem.rule) == ("book.xlsx:5", "bad_cell")


@pytest.mark.parametrize("sheet", ["<worksheet>", "<!DOCTYPE a [<!ENTITY x 'ha'>]><worksheet>&x;</worksheet>", ""])
def test_a_damaged_sheet_is_a_problem(tmp_path: Path, sheet: str) -> None:
    (problem,) = rows(book(tmp_path, {workbook.SHEET: sheet}))
    assert isinstance(problem, Problem) and problem.rule == "bad_workbook"


def test_a_damaged_member_is_a_problem(tmp_path: Path) -> None:
    path = book(tmp_path, {workbook.SHEET: SHEET})
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(bytes(content))
    (problem,) = rows(path)
    assert isinstance(problem, Problem) and problem.rule == "bad_workbook"


def test_a_part_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "LARGEST_BYTES", 100)
    (problem,) = rows(book(tmp_path, {workbook.SHEET: SHEET}))
    assert isinstance(problem, Problem) and "100 bytes" in problem.detail


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sheet1"):
        workbook.check(book(tmp_path, {"other.xml": "<a/>"}), "made")
    (tmp_path / "book.xlsx").write_text("text")
    with pytest.raises(DataError, match="no readable zip"):
        workbook.check(tmp_path / "book.xlsx", "made")
