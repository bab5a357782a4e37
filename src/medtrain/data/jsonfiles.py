"""Rows of JSON lines, JSON arrays and Parquet; the first byte of a file says which it is, its name does not.

Lines, arrays and objects of objects are streamed, so that a file may be larger than memory. Line files are cut into
byte ranges.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from medtrain.data.source import Problem, Unit, check_file
from medtrain.data.text import BOM, decode, mend
from medtrain.errors import DataError
from medtrain.records import Split

RANGE_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
SUFFIXES = (".json", ".jsonl", ".parquet")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
Kind = Literal["lines", "array", "parquet"]


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a file; `position` is `file:line`, or `file:number` in arrays and Parquet, counted from 1.

    `key` is its name where the file is one object of objects.
    """

    position: str
    value: dict[str, Any]
    key: str = ""


def kind_of(path: Path) -> Kind:
    """What the first bytes say a file is; anything but Parquet and `[` is read as lines."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PAR1"):
        return "parquet"
    return "array" if head.removeprefix(BOM).lstrip().startswith(b"[") else "lines"


def units(path: Path, label: str, split: Split) -> list[Unit]:
    """The pieces of a file, or of every JSON, JSONL and Parquet file below a folder, in the order of their names.

    Raises:
        DataError: there is no file, one is empty, or one is a Git LFS pointer.
    """
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"source {label}: {path}: holds no {', '.join(SUFFIXES)} file; check path")
    found: list[Unit] = []
    for file in files:
        check_file(file, label)
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if kind_of(file) == "lines":
            found += [Unit(str(file), name, split, start, stop, first) for start, stop, first in ranges(file)]
        else:
            found.append(Unit(str(file), name, split))
    return found


def ranges(path: Path, size_bytes: int = RANGE_BYTES) -> list[tuple[int, int, int]]:
    """Cut a line file into (start byte, stop byte, number of the first line), each piece of whole lines."""
    pieces: list[tuple[int, int, int]] = []
    start, line = 0, 1
    with path.open("rb") as file:
        while block := file.read(size_bytes):
            block += file.readline()
            pieces.append((start, start + len(block), line))
            start += len(block)
            line += block.count(b"\n")
    return pieces


def rows(unit: Unit) -> Iterator[Row | Problem]:
    """The objects of a unit; a line or item that is no JSON object is a problem, and so is a file that breaks off."""
    kind = kind_of(Path(unit.path))
    yield from {"lines": _lines, "array": _array, "parquet": _parquet}[kind](unit)


def _lines(unit: Unit) -> Iterator[Row | Problem]:
    with Path(unit.path).open("rb") as file:
        yield from line_rows(_range(file, unit), unit.name, unit.first)


def _range(file: BinaryIO, unit: Unit) -> Iterator[bytes]:
    place = file.seek(unit.start)
    for raw in file:
        if unit.stop is not None and place >= unit.stop:
            return
        place += len(raw)
        yield raw


def line_rows(lines: Iterable[bytes], name: str, first: int = 1) -> Iterator[Row | Problem]:
    """The objects of JSON lines, wherever the lines come from; `first` is the number of the first one."""
    for number, raw in enumerate(lines, first):
        position = f"{name}:{number}"
        if raw.strip():
            text, problems = decode(raw, position)
            yield from problems
            yield from _object(text, position)


def item_rows(raw: bytes, name: str, first: int = 1) -> Iterator[Row | Problem]:
    """The objects of a piece of an array that begins with an item; a piece without any is where a file broke off."""
    text = _escaped(raw.decode("utf-8", errors="surrogateescape"))
    decoder = json.JSONDecoder(parse_constant=_refuse)
    number, place = first, _BETWEEN.match(text).end()  # type: ignore[union-attr] # it matches nothing too
    while number == first or place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield Problem(f"{name}:{number}", "bad_json", f"{type(error).__name__}: the array breaks off here")
            return
        yield from _row(value, f"{name}:{number}")
        number, place = number + 1, _BETWEEN.match(text, place).end()  # type: ignore[union-attr] # as above


def _object(text: str, position: str) -> Iterator[Row | Problem]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        yield Problem(position, "bad_json", f"{type(error).__name__}: not a JSON value")
    else:
        yield from _row(value, position)


def _row(value: Any, position: str, key: str = "") -> Iterator[Row | Problem]:
    if not isinstance(value, dict):
        yield Problem(position, "bad_json", f"a {type(value).__name__} where an object is needed")
        return
    mended = mend(value)
    if mended != value:
        yield Problem(position, "bad_characters", "bad bytes, lone surrogates or NULs replaced", action="changed")
    yield Row(position, mended, mend(key))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def members(unit: Unit) -> Iterator[Row | Problem]:
    """The objects of a file that is one object `{"key": {…}, …}`, whose first byte does not tell it from lines."""
    return _items(unit, "}", _member)


def _array(unit: Unit) -> Iterator[Row | Problem]:
    return _items(unit, "]", _item)


def _item(decoder: json.JSONDecoder, text: str, place: int) -> tuple[str, Any, int]:
    value, place = decoder.raw_decode(text, place)
    return "", value, place


def _member(decoder: json.JSONDecoder, text: str, place: int) -> tuple[str, Any, int]:
    key, place = decoder.raw_decode(text, place)
    colon = _COLON.match(text, place)
    if not isinstance(key, str) or colon is None:
        raise ValueError("a key in quotes and a colon are needed")
    value, place = decoder.raw_decode(text, colon.end())
    return key, value, place


def _items(
    unit: Unit, close: str, decode_one: Callable[[json.JSONDecoder, str, int], tuple[str, Any, int]]
) -> Iterator[Row | Problem]:
    """Items one by one: the decoder is asked again with more text whenever an item runs over what has been read.

    Undecodable bytes come in as lone surrogates and raw NULs as their JSON escapes, so that `_row` sees and mends both.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse)
    number = 0
    with Path(unit.path).open("r", encoding="utf-8", errors="surrogateescape") as file:
        text = file.read(CHUNK_BYTES)
        if text.startswith("\ufeff"):
            yield Problem(unit.name, "byte_order_mark", "taken off", action="changed")
        text = _escaped(text.removeprefix("\ufeff").lstrip()[1:])
        place = 0
        while True:
            place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr] # it matches nothing too
            if text.startswith(close, place):
                return
            try:
                key, value, place = decode_one(decoder, text, place)
            except (ValueError, RecursionError) as error:
                more = file.read(max(CHUNK_BYTES, len(text)))
                if not more:
                    detail = f"{type(error).__name__}: the file breaks off after {number} items"
                    yield Problem(f"{unit.name}:{number + 1}", "bad_json", detail)
                    return
                text, place = text[place:] + _escaped(more), 0
                continue
            number += 1
            yield from _row(value, f"{unit.name}:{number}", key)


def _escaped(text: str) -> str:
    return text.replace("\0", "\\u0000")


def _parquet(unit: Unit) -> Iterator[Row | Problem]:
    number = 0
    try:
        with pq.ParquetFile(unit.path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield from _row(value, f"{unit.name}:{number}")
    except (pa.ArrowException, OSError, ValueError) as error:
        detail = f"{type(error).__name__}: the Parquet file breaks off after {number} rows"
        yield Problem(f"{unit.name}:{number + 1}", "bad_parquet", detail)
