"""The first sheet of an Excel workbook, or of an unpacked one, row by row: nothing but zip and XML."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from medtrain.data import archive, xmlfiles
from medtrain.data.source import Problem, Unit, check_file, is_pointer
from medtrain.data.text import mend
from medtrain.errors import DataError

STRINGS, SHEET = "xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"
LARGEST_BYTES = 256 * 2**20
"""A part that would unpack to more is refused: it is read whole."""
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile("[A-Z]{1,3}(?=[0-9])")


@dataclass(frozen=True, slots=True)
class Row:
    """The texts of a row's first columns, empty where a cell is; `position` is `file:row` as Excel counts."""

    position: str
    cells: tuple[str, ...]


def check(path: Path, label: str) -> None:
    """See that there is a sheet to read.

    Raises:
        DataError: the file is no readable zip, a part is a Git LFS pointer, or there is no sheet.
    """
    names = archive.names(path, ".xml")
    if SHEET not in names:
        raise DataError(f"source {label}: {path}: has no {SHEET}, so it is no workbook; check path")
    for name in (STRINGS, SHEET):
        if path.is_dir() and name in names and is_pointer(path / name):
            check_file(path / name, label)


def rows(unit: Unit, columns: int) -> Iterator[Row | Problem]:
    """The rows of the first sheet with at least one text in their first columns; a damaged part is a problem."""
    try:
        shared = [_text(item) for item in _elements(unit, STRINGS, "si")]
        found = _elements(unit, SHEET, "row")
    except ValueError as error:
        yield Problem(unit.name, "bad_workbook", str(error))
        return
    for number, element in enumerate(found, 1):
        position = f"{unit.name}:{element.get('r', number)}"
        cells = [""] * columns
        broken, place = 0, -1
        for cell in (child for child in element if _name(child) == "c"):
            place = _column(cell.get("r", ""), place + 1)
            if place < columns:
                text = _value(cell, shared)
                broken += text is None
                cells[place] = text or ""
        if broken:
            yield Problem(position, "bad_cell", f"{broken} cells name a shared text that is not there")
        elif any(cells):
            yield Row(position, tuple(cells))


def _elements(unit: Unit, part: str, name: str) -> list[Element]:
    content = _content(Path(unit.path), part)
    return [] if content is None else [e for e in xmlfiles.parse(content).iter() if _name(e) == name]


def _content(path: Path, part: str) -> bytes | None:
    """A part's bytes, None where there is none.

    Raises:
        ValueError: it cannot be unpacked, or is too large.
    """
    if path.is_dir():
        return (path / part).read_bytes() if (path / part).is_file() else None
    try:
        with zipfile.ZipFile(path) as file:
            if part not in file.namelist():
                return None
            if file.getinfo(part).file_size > LARGEST_BYTES:
                raise ValueError(f"{part} unpacks to more than {LARGEST_BYTES} bytes")
            return file.read(part)
    except ValueError:
        raise
    except Exception as error:  # zipfile and zlib raise many kinds on damaged members
        raise ValueError(f"{part}: {type(error).__name__}: cannot be unpacked") from None


def _name(element: Element) -> str:
    """An element's name without a prefix."""
    return element.tag.rpartition(":")[2]


def _column(reference: str, following: int) -> int:
    """The number of a cell's column from 0 (`B7` is 1); the following one where the cell does not say."""
    match = _REFERENCE.match(reference)
    if match is None:
        return following
    number = 0
    for letter in match[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _value(cell: Element, shared: list[str]) -> str | None:
    """A cell's text; None where it names a shared one that is not there."""
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _text(cell)
    value = next((child.text or "" for child in cell if _name(child) == "v"), "")
    if kind != "s" or not value:
        return _plain(value)
    is_number = len(value) < 10 and value.isascii() and value.isdigit()
    return shared[int(value)] if is_number and int(value) < len(shared) else None


def _text(element: Element) -> str:
    """The runs of a text one after the other, without the readings that stand over East Asian ones."""
    readings = {id(text) for reading in element.iter() if _name(reading) == "rPh" for text in reading.iter()}
    return _plain("".join(e.text or "" for e in element.iter() if _name(e) == "t" and id(e) not in readings))


def _plain(text: str) -> str:
    """Line breaks as one character, and what Excel writes as `_x000D_`."""
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    mended: str = mend(text.replace("\r\n", "\n").replace("\r", "\n"))
    return mended
