"""Rows that lie deep in one JSON object, as in SQuAD's form `{"data": [{"title": …, "paragraphs": [row, row, …]}]}`.

The file is read once to find where each row begins and ends, a piece at a time, and cut into byte ranges of whole rows,
so that neither this nor reading a range ever holds the file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from medtrain.data import jsonfiles
from medtrain.data.jsonfiles import Row
from medtrain.data.source import Problem, Unit, check_file
from medtrain.data.text import BOM
from medtrain.records import Split

RANGE_BYTES = 8 * 2**20
"""Less than a line file's ranges: the questions of a long text become records that each carry it."""
CHUNK_BYTES = 2**20


@dataclass(slots=True)
class Holder:
    """An object that holds rows: its other members that are texts, and the bytes [start, stop) of each row."""

    texts: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, int]] = field(default_factory=list)


def units(path: Path, label: str, split: Split, keys: Sequence[str]) -> list[tuple[Holder, Unit]]:
    """Ranges of the rows that `keys` lead to (arrays on the way are passed through), each with what holds them.

    What stands behind damage, or a file without such rows, is one range too: reading it gives the problem.

    Raises:
        DataError: the file is absent, empty, or a Git LFS pointer.
    """
    name, size = path.name, check_file(path, label).stat().st_size
    holders, broken = scan(path, keys)
    found: list[tuple[Holder, Unit]] = []
    for holder in holders:
        start = first = 0
        for number, (begin, end) in enumerate(holder.rows):
            if number == first:
                start = begin
            if end - start >= RANGE_BYTES or number == len(holder.rows) - 1:
                found.append((holder, Unit(str(path), name, split, start, end, first + 1)))
                first = number + 1
    if broken is not None or not found:
        holder = holders[-1] if holders else Holder()
        found.append((holder, Unit(str(path), name, split, broken or 0, size, len(holder.rows) + 1)))
    return found


def scan(path: Path, keys: Sequence[str]) -> tuple[list[Holder], int | None]:
    """Every holder of a file, and the byte at which the file stops being JSON (null where it is sound)."""
    holders: list[Holder] = []
    with path.open("rb") as file:
        text = _Text(file)
        try:
            _enter(text, keys, holders)
            if text.peek():
                raise ValueError("something stands behind the object")
        except (ValueError, RecursionError):
            return holders, text.offset
    return holders, None


def rows(unit: Unit) -> Iterator[Row | Problem]:
    """The rows of a range; see `jsonfiles.rows`."""
    with Path(unit.path).open("rb") as file:
        file.seek(unit.start)
        raw = file.read(-1 if unit.stop is None else unit.stop - unit.start)
    return jsonfiles.item_rows(raw, unit.name, unit.first)


class _Text:
    """A file as text of one character per byte (JSON's own signs are ASCII), read on as far as it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.text = ""
        self.place = 0
        # Bytes of the file that stand in front of `text`.
        self.before = file.seek(len(BOM) if file.read(len(BOM)) == BOM else 0)
        self.decoder = json.JSONDecoder()

    @property
    def offset(self) -> int:
        return self.before + self.place

    def _more(self) -> bool:
        raw = self.file.read(max(CHUNK_BYTES, len(self.text) - self.place))
        if not raw:
            return False
        # A NUL inside a text is mended when the row is read; here it must only not end it.
        self.text = self.text[self.place :] + raw.decode("latin-1").replace("\0", " ")
        self.before += self.place
        self.place = 0
        return True

    def peek(self) -> str:
        """The next sign that is no blank, without taking it; empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self._more():
                return ""

    def take(self, sign: str) -> bool:
        """Whether the next sign is this one; it is taken then."""
        found = self.peek() == sign
        self.place += found
        return found

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise ValueError(f"no {sign} where one is needed")

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, stop = self.decoder.raw_decode(self.text, self.place)
            except ValueError:
                if not self._more():
                    raise
                continue
            # A number at the end of what was read may go on.
            if stop == len(self.text) and self._more():
                continue
            self.place = stop
            return value


def _enter(text: _Text, keys: Sequence[str], holders: list[Holder]) -> None:
    """Walk through an object; rows found before damage stay found."""
    holder = Holder()
    if len(keys) == 1:
        holders.append(holder)
    text.need("{")
    more = not text.take("}")
    while more:
        name = text.value()
        text.need(":")
        if name == keys[0] and text.take("["):
            _items(text, keys, holder, holders)
        else:
            value = text.value()
            if isinstance(name, str) and isinstance(value, str):
                holder.texts[name] = value.encode("latin-1", "replace").decode("utf-8", "replace")
        more = text.take(",")
        if not more:
            text.need("}")


def _items(text: _Text, keys: Sequence[str], holder: Holder, holders: list[Holder]) -> None:
    more = not text.take("]")
    while more:
        if len(keys) > 1 and text.peek() == "{":
            _enter(text, keys[1:], holders)
        else:
            text.peek()
            start = text.offset
            text.value()
            if len(keys) == 1:
                holder.rows.append((start, text.offset))
        more = text.take(",")
        if not more:
            text.need("]")
