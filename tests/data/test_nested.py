"""Rows deep in one JSON object: ranges that meet, any chunk size, members before and behind the rows, damage."""

import json
from pathlib import Path
from typing import Any

import pytest

from medtrain.data import nested
from medtrain.data.jsonfiles import Row
from medtrain.data.source import Problem

CONTENT = {
    "version": "1",
    "skipped": {"data": [{"rows": [{"n": -1}]}]},
    "data": [
        {"rows": [{"n": n, "text": "甲é\u2028" * (n % 5), "in": {"rows": [1]}} for n in range(40)], "title": "é"},
        {"title": "none", "rows": []},
        7,
        {"title": "before", "rows": [{"n": n} for n in range(40, 43)]},
    ],
}


def read(path: Path) -> tuple[list[tuple[str, str, Any]], list[Problem]]:
    """(title, position, n) of every row, and the problems."""
    rows, problems = [], []
    for holder, unit in nested.units(path, "made", "train", ("data", "rows")):
        for item in nested.rows(unit):
            if isinstance(item, Row):
                rows.append((holder.texts.get("title", ""), item.position, item.value.get("n")))
            else:
                problems.append(item)
    return rows, problems


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
@pytest.mark.parametrize("range_bytes", [1, 300, 10**6])
@pytest.mark.parametrize("indent", [None, 2])
def test_every_row_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, range_bytes: int, indent: int | None
) -> None:
    monkeypatch.setattr(nested, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(nested, "RANGE_BYTES", range_bytes)
    path = tmp_path / "deep.json"
    path.write_text("\ufeff" + json.dumps(CONTENT, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
    rows, problems = read(path)
    assert problems == []
    assert rows == [
        *(("é", f"deep.json:{n + 1}", n) for n in range(40)),
        *(("before", f"deep.json:{n - 39}", n) for n in range(40, 43)),
    ]


def test_one_key_leads_to_the_rows_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "flat.json"
    path.write_text('{"data": [{"n": 1}, {"n": 2}], "version": "2"}')
    ((holder, unit),) = nested.units(path, "made", "train", ("data",))
    assert holder.texts == {"version": "2"}
    assert [item.value for item in nested.rows(unit) if isinstance(item, Row)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("cut", range(20, 2000, 97))
def test_a_file_that_breaks_off_keeps_its_first_rows_and_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "deep.json"
    text = json.dumps(CONTENT)
    path.write_text(text[:cut])
    rows, problems = read(path)
    assert [n for _, _, n in rows] == list(range(len(rows)))
    assert len(rows) == text[:cut].count("[1]}}")
    assert [problem.rule for problem in problems] == ["bad_json"]


def test_what_is_no_such_file_is_one_range_with_a_row_or_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for content, found in (
        ('{"dataset": []}', ([("", "other.json:1", None)], [])),
        ("[1]", ([], ["bad_json"])),
        ("n", ([], ["bad_json"])),
        ('{"data": [{"rows": [{"n": "\\ud8', ([], ["bad_json"])),
        ('{"data": ' + "[" * 100_000, ([], ["bad_json"])),
    ):
        path.write_text(content)
        rows, problems = read(path)
        assert (rows, [problem.rule for problem in problems]) == found


def test_bad_bytes_and_nuls_are_mended_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    path.write_bytes(b'{"data": [{"rows": [{"n": "a\xff"}, {"n": "b\0c"}, {"n": "\xe7\x94\xb2"}]}]}')
    rows, problems = read(path)
    assert [n for _, _, n in rows] == ["a\ufffd", "b c", "甲"]
    assert [(p.position, p.rule, p.action) for p in problems] == [
        ("bytes.json:1", "bad_characters", "changed"),
        ("bytes.json:2", "bad_characters", "changed"),
    ]
