"""Reading lines, arrays and Parquet: shape by first byte, ranges, positions, damage."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medtrain.data import jsonfiles
from medtrain.data.jsonfiles import Row
from medtrain.data.source import Problem, Unit
from medtrain.errors import DataError

ROWS = [{"n": n, "text": "甲" * (n % 7), "nested": {"list": [n, None]}} for n in range(500)]


def all_rows(path: Path) -> list[Row | Problem]:
    return [item for unit in jsonfiles.units(path, "made", "train") for item in jsonfiles.rows(unit)]


def values(path: Path) -> list[object]:
    return [item.value for item in all_rows(path) if isinstance(item, Row)]


def test_the_first_byte_decides_not_the_name(tmp_path: Path) -> None:
    lines, array, table = (tmp_path / name for name in ("lines.json", "array.jsonl", "table.json"))
    lines.write_text("".join(json.dumps(row) + "\r\n" for row in ROWS))
    array.write_text("\ufeff  " + json.dumps(ROWS, indent=2), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    assert values(lines) == values(array) == values(table) == ROWS
    assert [jsonfiles.kind_of(path) for path in (lines, array, table)] == ["lines", "array", "parquet"]


@pytest.mark.parametrize("chunk_bytes", [7, 64, 1000])
def test_an_array_is_streamed_in_chunks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(jsonfiles, "CHUNK_BYTES", chunk_bytes)
    assert values(path) == ROWS


@pytest.mark.parametrize("size_bytes", [1, 100, 5000, 10**6])
def test_ranges_cover_every_line_once_with_its_number(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    units = [Unit(str(path), "rows.jsonl", "train", *piece) for piece in jsonfiles.ranges(path, size_bytes)]
    items = [item for unit in units for item in jsonfiles.rows(unit)]
    assert [item.value["n"] for item in items if isinstance(item, Row)] == list(range(500))
    assert [item.position for item in items] == [f"rows.jsonl:{n}" for n in range(1, 501)]


def test_bad_lines_are_problems_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\n{"a": \n\n[1]\n{"a": NaN}\n{"a": "\xff\xfe"}\n{"a": "x\0y"}\n{"a": "\\ud800"}\n'
        + b"[" * 100_000
        + b'\n{"a": "\xe2\x80\xa8"}'
    )
    items = all_rows(path)
    rows = [(item.position, item.value["a"]) for item in items if isinstance(item, Row)]
    problems = [(p.position, p.rule, p.action) for p in items if isinstance(p, Problem)]
    assert rows == [
        ("rows.jsonl:1", 1),
        ("rows.jsonl:6", "\ufffd\ufffd"),
        ("rows.jsonl:7", "x y"),
        ("rows.jsonl:8", "\ufffd"),
        ("rows.jsonl:10", "\u2028"),
    ]
    assert problems == [
        ("rows.jsonl:1", "byte_order_mark", "changed"),
        ("rows.jsonl:2", "bad_json", "dropped"),
        ("rows.jsonl:4", "bad_json", "dropped"),
        ("rows.jsonl:5", "bad_json", "dropped"),
        ("rows.jsonl:6", "bad_bytes", "changed"),
        ("rows.jsonl:7", "nul_bytes", "changed"),
        ("rows.jsonl:8", "bad_characters", "changed"),
        ("rows.jsonl:9", "bad_json", "dropped"),
    ]


def test_a_broken_array_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": "\xff"}, {"a": "x\0"}, {"a": 3}, {"a": ')
    items = all_rows(path)
    assert [item.value["a"] for item in items if isinstance(item, Row)] == ["\ufffd", "x ", 3]
    problems = [item for item in items if isinstance(item, Problem)]
    assert [(p.position, p.rule) for p in problems] == [
        ("rows.json:1", "bad_characters"),
        ("rows.json:2", "bad_characters"),
        ("rows.json:4", "bad_json"),
    ]


def test_a_broken_parquet_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-20])
    (problem,) = all_rows(path)
    assert isinstance(problem, Problem)
    assert problem.rule == "bad_parquet"


def test_empty_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no"):
        jsonfiles.units(tmp_path, "made", "train")
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        jsonfiles.units(tmp_path, "made", "train")


def members(path: Path) -> list[Row | Problem]:
    return list(jsonfiles.members(Unit(str(path), path.name)))


@pytest.mark.parametrize("chunk_bytes", [7, 64, 10**6])
def test_an_object_of_objects_is_streamed_with_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    path = tmp_path / "rows.json"
    path.write_text("\ufeff" + json.dumps({f'"{n}:': row for n, row in enumerate(ROWS)}, indent=2), encoding="utf-8")
    monkeypatch.setattr(jsonfiles, "CHUNK_BYTES", chunk_bytes)
    mark, *rows = members(path)
    assert isinstance(mark, Problem) and mark.rule == "byte_order_mark"
    expected = [Row(f"rows.json:{n + 1}", row, f'"{n}:') for n, row in enumerate(ROWS)]
    assert rows == expected


def test_a_broken_object_of_objects_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'{"a\xff": {"n": 1}, "b": [], "c" : {"n": "\xff"}, 4: {}}')
    found = [(item.key, item.value) if isinstance(item, Row) else (item.position, item.rule) for item in members(path)]
    assert found == [
        ("a\ufffd", {"n": 1}),
        ("rows.json:2", "bad_json"),
        ("rows.json:3", "bad_characters"),
        ("c", {"n": "\ufffd"}),
        ("rows.json:4", "bad_json"),
    ]
