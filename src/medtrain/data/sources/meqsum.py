"""MeQSum, consumers' health questions and short forms of them (Ben Abacha, Demner-Fushman 2019): one Excel workbook.

Its first sheet has the columns File, CHQ, Summary; it declares a thousand further ones, which hold nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from medtrain.data import workbook
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.records import Record, Split, Turn

COLUMNS = ("File", "CHQ", "Summary")
EXAMPLE = Example(
    {
        workbook.STRINGS: "<sst><si><t>File</t></si><si><t>CHQ</t></si><si><t>Summary</t></si>"
        "<si><t>1.txt</t></si><si><r><t>SUBJECT: rest\nMESSAGE: </t></r><r><t>How long ?</t></r></si></sst>",
        workbook.SHEET: '<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c>'
        '<c r="C1" t="s"><v>2</v></c></row><row r="2"><c r="A2" t="s"><v>3</v></c><c r="B2" t="s"><v>4</v></c>'
        '<c r="C2" t="inlineStr"><is><t>How long should one rest?</t></is></c></row></sheetData></worksheet>',
    },
    records=1,
)


class Config(SourceConfig):
    """The workbook, the folder that it lies in, or one into which it was unpacked."""

    split: Split = "train"
    """Which split its rows belong to; the corpus has none."""


def units(config: Config, root: Path) -> list[Unit]:
    """The workbook as one unit.

    Raises:
        DataError: it is absent, damaged, or holds no sheet.
    """
    path = locate(config, root)
    books = sorted(path.glob("*.xlsx")) if path.is_dir() else []
    path = books[0] if len(books) == 1 else path
    if path.is_file():
        check_file(path, config.label)
    workbook.check(path, config.label)
    return [Unit(str(path), path.name if path.is_file() else workbook.SHEET, config.split)]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row with a question and its summary."""
    header: tuple[str, ...] | None = None
    for row in workbook.rows(unit, len(COLUMNS)):
        if isinstance(row, Problem):
            yield row
        elif header is None:
            header = row.cells
            if tuple(name.strip() for name in header) != COLUMNS:
                yield Problem(row.position, "bad_header", f"the first row is not {', '.join(COLUMNS)}")
                return
        else:
            yield _record(row, unit, config)


def _record(row: workbook.Row, unit: Unit, config: Config) -> Record | Problem:
    file, question, summary = (cell.strip() for cell in row.cells)
    if not (file and question and summary):
        return Problem(row.position, "empty_cell", "needs File, CHQ and Summary", file)
    return Record(
        id=f"{config.label}:{file}",
        document_id=f"{config.label}:{file}",
        source=config.label,
        task="summary",
        category="TS",
        language="en",
        split=unit.split,
        turns=(Turn("user", context=question), Turn("assistant", trained=True)),
        gold={"summary": summary},
    )
