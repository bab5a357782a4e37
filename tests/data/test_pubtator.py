"""PubTator documents: columns, offsets, composites, and what is wrong with a line."""

from pathlib import Path

from medtrain.data import pubtator
from medtrain.data.pubtator import Document
from medtrain.data.source import Problem, Unit
from medtrain.records import Record

TITLE = "7|t|Drug A and B fever"
ABSTRACT = "7|a|It fell."


def read(tmp_path: Path, text: str) -> tuple[list[Document], list[Problem], Unit]:
    path = tmp_path / "made.txt"
    path.write_text(text, encoding="utf-8", newline="")
    unit = Unit(str(path), "made.txt", "test")
    items = list(pubtator.documents(unit))
    return [i for i in items if isinstance(i, Document)], [i for i in items if isinstance(i, Problem)], unit


def test_columns_are_tabs_and_the_last_document_needs_no_blank_line(tmp_path: Path) -> None:
    lines = [
        TITLE,
        ABSTRACT,
        "7\t0\t12\tDrug A and B\tChemical\tMESH:D1|D2+D3\tDrug A|Drug B",
        "7\t13\t18\tfever\tDisease\t-1",
        "7\tCID\tD2\tD9\t0.5",
    ]
    (document,), problems, _ = read(tmp_path, "\r\n".join(lines))
    assert problems == []
    assert document.text == "Drug A and B fever It fell."
    composite, plain = document.mentions
    assert (composite.ids, composite.parts) == (("MESH:D1", "D2", "D3"), ("Drug A", "Drug B"))
    assert (plain.text, plain.ids, plain.parts) == ("fever", (), ())
    assert document.relations == (("CID", "D2", "D9"),)


def test_wrong_lines_are_left_out_and_said(tmp_path: Path) -> None:
    lines = [
        "7\t0\t6\tDrug B\tChemical\tD1",
        "7\t5\t5\t\tChemical\tD1",
        "7\t20\t99\tIt fell.\tDisease\tD1",
        "7\tx\t6\tDrug A\tChemical\tD1",
        "8\t0\t6\tDrug A\tChemical\tD1",
        "7\tno",
        "7\t13\t18\tfever  \tDisease\tD1",
    ]
    (document,), problems, _ = read(tmp_path, "\n".join([TITLE, ABSTRACT, *lines, "", "9|t|only a title", ""]))
    assert [m.text for m in document.mentions] == ["fever"]
    assert [(p.position, p.rule, p.action) for p in problems] == [
        *((f"made.txt:{n}", "offset_mismatch", "changed") for n in (3, 4, 5, 6)),
        ("made.txt:7", "foreign_line", "changed"),
        ("made.txt:8", "unknown_line", "changed"),
        ("made.txt:9", "surface_blanks", "changed"),
        ("made.txt:11", "no_passages", "dropped"),
    ]


def test_offsets_count_code_points_and_not_bytes_or_lines(tmp_path: Path) -> None:
    text = "7|t|α\u2028β 𝛾 pain\n7|a|None.\n7\t0\t3\tα\u2028β\tDisease\tD1\n7\t4\t5\t𝛾\tDisease\tD2"
    (document,), problems, _ = read(tmp_path, text)
    assert problems == []
    assert [m.text for m in document.mentions] == ["α\u2028β", "𝛾"]


def test_relations_are_named_by_first_mentions(tmp_path: Path) -> None:
    lines = [
        "7\t13\t18\tfever\tDisease\tD9|D8",
        "7\t0\t6\tDrug A\tChemical\tD1",
        "7\tCID\tD1\tD9",
        "7\tCID\tD1\tD8",
        "7\tCID\tD1\tD5",
    ]
    (document,), _, unit = read(tmp_path, "\n".join([TITLE, ABSTRACT, *lines]))
    problem, record = pubtator.relation_record(document, unit, "made", ["CID"])
    assert isinstance(problem, Problem)
    assert problem.rule == "unnamed_relation"
    assert isinstance(record, Record)
    assert record.gold == {"relations": [{"type": "CID", "head": "Drug A", "tail": "fever"}], "types": ["CID"]}
    assert (record.document_id, record.split) == ("pmid:7", "test")
