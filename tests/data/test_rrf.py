"""Rich Release Format: the order of columns, fields that hold quotes, lines of a wrong width."""

from pathlib import Path

from medtrain.data import rrf
from medtrain.data.source import Problem

LISTING = "MRSTY.RRF|Semantic Types|TUI,CUI,STN,STY,ATUI,CVF|6|2|80|\nMRDEF.RRF|Definitions|CUI,AUI,DEF|3|2|80|\n"


def test_columns_stand_as_listed_else_as_documented(tmp_path: Path) -> None:
    documented, problems = rrf.orders(None)
    assert problems == []
    assert [len(columns) for columns in documented.values()] == [18, 6, 16, 8]
    (tmp_path / "MRFILES.RRF").write_text(LISTING)
    found, problems = rrf.orders(tmp_path / "MRFILES.RRF")
    assert list(found["MRSTY"][:2]) == ["TUI", "CUI"]
    assert found["MRDEF"] == documented["MRDEF"]
    assert [(p.rule, p.action) for p in problems] == [("bad_columns", "changed")]


def test_fields_are_taken_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "MRSTY.RRF"
    path.write_bytes(
        b"\xef\xbb\xbfC1|T1|A|5\" \x85 long|AT1||\r\nC2|T2|A|'b\xff|AT2||\nC3|T3|A|short|AT3|\n\nC4|T|A|S|AT||"
    )
    rows = list(rrf.rows(path, rrf.orders(None)[0], ("STY", "CUI")))
    assert [row for row in rows if not isinstance(row, Problem)] == [
        (1, (b'5" \x85 long', b"C1")),
        (2, (b"'b\xff", b"C2")),
        (5, (b"S", b"C4")),
    ]
    problems = [row for row in rows if isinstance(row, Problem)]
    assert [(p.position, p.detail) for p in problems] == [
        ("MRSTY.RRF:3", "5 fields, 6 are needed"),
        ("MRSTY.RRF:4", "0 fields, 6 are needed"),
    ]


def test_another_kind_of_file_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "MRSTY.RRF"
    path.write_text("CUI,TUI\n" * 5000)
    rows = list(rrf.rows(path, rrf.orders(None)[0], ("STY", "CUI")))
    assert len(rows) == rrf.BAD_ROWS + 1
    last = rows[-1]
    assert isinstance(last, Problem)
    assert last.rule == "not_rrf"
