"""UMLS: which name a concept bears, which way a relation reads, what is left out, how concepts are drawn."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from medtrain.data.draw import key
from medtrain.data.source import Problem
from medtrain.data.sources import umls
from medtrain.errors import DataError
from medtrain.records import Record

TABLES = ("MRCONSO", "MRSTY", "MRREL", "MRDEF")


def concept(number: int, name: str, rest: str = "") -> str:
    """A line of MRCONSO with a canonical name; `rest` replaces `LAT TS STT ISPREF SAB SUPPRESS AUI`."""
    lat, ts, stt, preferred, vocabulary, suppress, atom = (rest or f"ENG P PF Y MADE N A{number}").split()
    return f"C{number:07d}|{lat}|{ts}|L|{stt}|S|{preferred}|{atom}|||D|{vocabulary}|PT|D|{name}|0|{suppress}||\n"


def relation(one: int, name: str, two: int, suppress: str = "N", vocabulary: str = "MADE") -> str:
    """A line of MRREL: concept `two` has the relation to concept `one`."""
    return f"C{one:07d}|A|AUI|RO|C{two:07d}|A|AUI|{name}|R||{vocabulary}|{vocabulary}|||{suppress}||\n"


def write(folder: Path, names: Sequence[str], relations: Sequence[str] = (), types: str = "", means: str = "") -> None:
    """The four tables; an empty one gets a line of another concept."""
    texts = ("".join(names), types or "C9|T|A|S|AT||\n", "".join(relations) or relation(8, "isa", 9), means)
    for table, text in zip(TABLES, texts, strict=True):
        (folder / f"{table}.RRF").write_text(text or "C9|A|AT||MADE|D|N||\n")


def read(folder: Path, **settings: object) -> tuple[dict[str, list[str]], list[Problem]]:
    """What is asked and answered, by id without the label, and the problems."""
    config = umls.Config.model_validate({"source": "umls", "path": ".", **settings})
    items = [item for unit in umls.units(config, folder) for item in umls.read(unit, config)]
    records = [item for item in items if isinstance(item, Record)]
    answers = {
        f"{r.category} {r.turns[0].query}: {(r.gold or {})['attribute']}": (r.gold or {})["values"] for r in records
    }
    assert len(answers) == len(records)
    return answers, [item for item in items if isinstance(item, Problem)]


def test_the_example_to_the_last_row(tmp_path: Path) -> None:
    for name, text in umls.EXAMPLE.files.items():
        (tmp_path / name).write_text(text)
    assert read(tmp_path) == (
        {
            "EA Made fever: semantic type": ["Sign or Symptom"],
            "EA Made fever: definition": ["A made state of being warm."],
            "ES Made fever: synonyms": ["Pyrexia, made"],
            "EA Madecillin: semantic type": ["Pharmacologic Substance"],
            "ER Madecillin: may treat": ["Made fever"],
            "ER Made fever: may be treated by": ["Madecillin"],
        },
        [],
    )


def test_the_canonical_name_wins_wherever_it_stands_and_synonyms_differ_from_it(tmp_path: Path) -> None:
    names = [
        concept(1, "second", "ENG S PF Y MADE N A1"),
        concept(1, "variant", "ENG P VO Y MADE N A2"),
        concept(1, "  Canonical   name ", "ENG P PF Y MADE N A3"),
        concept(1, "canonical NAME", "ENG S PF N MADE N A4"),
        concept(1, "Second", "ENG S PF N OTHER N A5"),
        concept(1, "obsolete", "ENG S PF N MADE O A6"),
        concept(1, "nombre", "SPA P PF Y MADE N A7"),
        concept(1, "", "ENG S PF N MADE N A8"),
    ]
    write(tmp_path, names)
    assert read(tmp_path, kinds=["synonymy"])[0] == {"ES Canonical name: synonyms": ["second", "variant"]}
    shown = read(tmp_path, kinds=["synonymy"], suppress=["N", "O"], vocabularies=["MADE"])[0]
    assert shown == {"ES Canonical name: synonyms": ["second", "variant", "obsolete"]}
    assert read(tmp_path, kinds=["synonymy"], vocabularies=["OTHER"])[0] == {}


def test_relations_read_from_right_to_left(tmp_path: Path) -> None:
    relations = [
        relation(2, "isa", 1),
        relation(3, "isa", 1),
        relation(2, "isa", 1, vocabulary="OTHER"),
        relation(1, "inverse_isa", 2),
        relation(1, "mapped_to", 1),
        relation(2, "", 1),
        relation(4, "part_of", 1, suppress="O"),
        relation(5, "part_of", 1),
    ]
    names = [concept(1, "flu"), concept(2, "disease"), concept(3, "infection"), concept(4, "body")]
    write(tmp_path, names, relations)
    both = {"ER flu: isa": ["disease", "infection"], "ER disease: inverse isa": ["flu"]}
    assert read(tmp_path, kinds=["relation"]) == (both, [])
    assert read(tmp_path, kinds=["relation"], relations=["inverse_isa"])[0] == {"ER disease: inverse isa": ["flu"]}
    assert read(tmp_path, kinds=["relation"], vocabularies=["OTHER"])[0] == {}


def test_too_many_answers_are_none(tmp_path: Path) -> None:
    names = [concept(1, "disease"), *(concept(n, f"child {n}") for n in range(2, 9))]
    relations = [relation(n, "inverse_isa", 1) for n in range(2, 9)]
    write(tmp_path, names, relations)
    kept, problems = read(tmp_path, kinds=["relation"], most_values=7)
    assert len(kept["ER disease: inverse isa"]) == 7
    assert problems == []
    kept, problems = read(tmp_path, kinds=["relation"], most_values=6)
    assert kept == {}
    assert [(p.id, p.rule) for p in problems] == [("umls:C0000001/relation/inverse_isa", "many_values")]


def test_a_definition_belongs_to_a_name_of_the_language_and_the_first_one_counts(tmp_path: Path) -> None:
    means = (
        "C0000001|A7|AT||MADE|No es nada.|N||\n"
        "C0000001|A1|AT||MADE|Suppressed.|O||\n"
        'C0000001|A1|AT||MADE|A "made" one; with 5 % |N||\n'
        "C0000001|A1|AT||MADE|Later.|N||\n"
    )
    types = "C0000001|T1|A|One Type|AT||\nC0000001|T2|A|Other Type|AT||\n"
    write(tmp_path, [concept(1, "x"), concept(1, "equis", "SPA P PF Y MADE N A7")], types=types, means=means)
    assert read(tmp_path, kinds=["attribute"])[0] == {
        "EA x: semantic type": ["One Type", "Other Type"],
        "EA x: definition": ['A "made" one; with 5 %'],
    }


def test_concepts_are_drawn_by_seed_and_not_by_order(tmp_path: Path) -> None:
    names = [concept(n, f"name {n}") + concept(n, f"other {n}", f"ENG S PF Y MADE N B{n}") for n in range(1, 201)]
    write(tmp_path, names)
    drawn, _ = read(tmp_path, kinds=["synonymy"], concepts=30)
    smallest = sorted(range(1, 201), key=lambda n: key(42, "umls", f"C{n:07d}"))[:30]
    assert list(drawn) == [f"ES name {n}: synonyms" for n in sorted(smallest)]
    # Lines of a concept far from each other, in another order: the same concepts.
    lines = "".join(names).splitlines(keepends=True)
    write(tmp_path, [*lines[::-2], *lines[::2]])
    assert read(tmp_path, kinds=["synonymy"], concepts=30)[0] == drawn
    assert read(tmp_path, kinds=["synonymy"], concepts=30, seed=1)[0] != drawn
    assert len(read(tmp_path, kinds=["synonymy"], concepts=1000)[0]) == 200


def test_every_row_of_a_concept_is_of_one_document(tmp_path: Path) -> None:
    for name, text in umls.EXAMPLE.files.items():
        (tmp_path / name).write_text(text)
    config = umls.Config(source="umls", name="mine", path=".")
    rows = [r for unit in umls.units(config, tmp_path) for r in umls.read(unit, config) if isinstance(r, Record)]
    assert {r.document_id for r in rows} == {"umls:C0000001", "umls:C0000002"}
    assert rows[0].id == "mine:C0000001/semantic_type"


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    write(tmp_path, [concept(1, "Caf\u00e9"), "X0000002|" + concept(2, "y")[9:], concept(3, " "), "C0000004|ENG\n"])
    raw = (tmp_path / "MRCONSO.RRF").read_bytes()
    (tmp_path / "MRCONSO.RRF").write_bytes(raw.replace("\u00e9".encode(), b"\xe9"))
    types = "C0000001|T1|A|One Type|AT||\n"
    (tmp_path / "MRSTY.RRF").write_text(types)
    answers, problems = read(tmp_path, kinds=["attribute"])
    assert answers == {"EA Caf\ufffd: semantic type": ["One Type"]}
    assert [(p.position, p.rule) for p in problems] == [
        ("MRCONSO.RRF:2", "bad_cui"),
        ("MRCONSO.RRF:4", "bad_row"),
        ("MRCONSO.RRF:1", "bad_bytes"),
        ("MRCONSO.RRF:C0000003", "no_name"),
    ]


def test_only_the_tables_that_are_asked_for_are_needed(tmp_path: Path) -> None:
    write(tmp_path, [concept(1, "x"), concept(1, "y", "ENG S PF Y MADE N A2")])
    for table in TABLES[1:]:
        (tmp_path / f"{table}.RRF").unlink()
    assert read(tmp_path, kinds=["synonymy"])[0] == {"ES x: synonyms": ["y"]}
    with pytest.raises(DataError, match=r"MRREL\.RRF"):
        read(tmp_path, kinds=["relation"])
