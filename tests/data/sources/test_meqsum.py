"""MeQSum: the workbook and what is wrong with one, the published file to the last row."""

import zipfile
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import meqsum
from medtrain.records import Record

PUBLISHED = "data/meqsum/MeQSum_ACL2019_BenAbacha_Demner-Fushman.xlsx"


def read(root: Path, path: str, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = meqsum.Config.model_validate({"source": "meqsum", "path": path, **settings})
    items = [item for unit in meqsum.units(config, root) for item in meqsum.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_a_workbook_is_read_as_its_parts_are(tmp_path: Path) -> None:
    for name, text in meqsum.EXAMPLE.files.items():
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "parts" / name).write_text(text)
        with zipfile.ZipFile(tmp_path / "book.xlsx", "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, text)
    (record,), problems = read(tmp_path, "book.xlsx")
    assert problems == []
    assert (record.id, record.task, record.turns[0].query) == ("meqsum:1.txt", "summary", "")
    assert record.turns[0].context == "SUBJECT: rest\nMESSAGE: How long ?"
    assert record.gold == {"summary": "How long should one rest?"}
    assert read(tmp_path, "parts") == ([record], [])
    (tmp_path / "folder").mkdir()
    (tmp_path / "book.xlsx").rename(tmp_path / "folder" / "book.xlsx")
    assert read(tmp_path, "folder") == ([record], [])


def test_a_sheet_of_another_kind_is_said(tmp_path: Path) -> None:
    cells = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in ("File", "CHQ", "Answer"))
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as file:
        file.writestr("xl/worksheets/sheet1.xml", f"<sheetData><row>{cells}</row><row>{cells}</row></sheetData>")
    records, problems = read(tmp_path, "book.xlsx")
    assert records == []
    assert [(p.position, p.rule) for p in problems] == [("book.xlsx:1", "bad_header")]


def test_a_row_with_an_empty_cell_is_dropped(tmp_path: Path) -> None:
    sheet = meqsum.EXAMPLE.files["xl/worksheets/sheet1.xml"]
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as file:
        file.writestr("xl/sharedStrings.xml", meqsum.EXAMPLE.files["xl/sharedStrings.xml"])
        file.writestr("xl/worksheets/sheet1.xml", sheet.replace("How long should one rest?", " "))
    _, problems = read(tmp_path, "book.xlsx")
    assert [(p.position, p.rule, p.id) for p in problems] == [("book.xlsx:2", "empty_cell", "1.txt")]


def test_published_workbook_to_the_last_row(shared: Path) -> None:
    records, problems = read(shared, PUBLISHED)
    assert problems == []
    assert len(records) == len({r.id for r in records}) == 1000
    texts = [r.turns[0].context for r in records]
    summaries = [(r.gold or {})["summary"] for r in records]
    assert sum("\n" in text for text in texts) == 817
    assert len(set(summaries)) == 994
    assert sum(not (text + summary).isascii() for text, summary in zip(texts, summaries, strict=True)) == 17
    assert all(text.strip() == text for text in [*texts, *summaries])
